# Every target is one line of work for tools/stages.py, which installs what is missing, runs independent steps side by side
# and shows progress. `make help` lists the targets.

PYTHON ?= python3
# Only what has a default here: other variables reach the programs from the environment and the command line anyway.
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help python-there demo demo-down bench test test-all check fuzz artifacts samples bundle changed changelog setup \
	nodes play verify nodes-down clean lint unit install render default platform registration selected-faults rejected-input artifact used-hosts day2 secure grow trixie bullseye bundle-site wan faults

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9 -]+:.*## / { name = "make " $$1; \
		if (gsub(/ /, ", ", $$1)) { print "  make " $$1; name = "" } \
		printf "  %-17s %s\n", name, $$2 }' $(MAKEFILE_LIST)

python-there:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is missing: install it with 'apt-get install python3', or name another with PYTHON=" >&2; exit 1; }

demo: python-there ## The platform on three containers, with sample services, proven and left running
	@$(PYTHON) tools/stages.py demo && tools/demo screen

demo-down: ## Remove the containers and the network of the demo
	@tools/demo down

bench: python-there ## Measure the platform on nodes of its own; SUITE= picks one (converge, edge, registration, dns, growth, idle)
	@$(PYTHON) tools/stages.py bench

test: python-there ## Everything that CI runs
	@$(PYTHON) tools/stages.py test

test-all: python-there ## The same, and the long scenarios: day 2, attacks and rotations, growth, Debian 13 and 11, no internet, two sites, faults
	@$(PYTHON) tools/stages.py test-all

check: python-there ## Linters and unit tests only
	@$(PYTHON) tools/stages.py check

# The fuzz stage of `test` with more catalogues and trees, and a seed of its own: CATALOGUES=, TREES=, SEED= change them.
fuzz: python-there ## Generated catalogues and staged files, many and new ones (an hour; repeat a run with SEED=)
	@FUZZ_CATALOGUES=$(or $(CATALOGUES),2000) FUZZ_TREES=$(or $(TREES),2000) FUZZ_SEED=$(or $(SEED),random) \
		$(PYTHON) tools/stages.py --verbose fuzz
	@SCALE_SERVICES=3000 tools/test/pytest scale tests/apply/test_scale.py -s

nodes: python-there ## Three nodes with the platform, left running for play and verify; nothing where they run
	@$(PYTHON) tools/stages.py setup && tools/nodes up

play: ## Run site.yml on the running nodes: TAGS=nginx, LIMIT=consul-1
	@tools/nodes play "$(TAGS)" "$(LIMIT)"

verify: ## Run the node tests that match on the running nodes: K=edge
	@tools/nodes verify "$(K)"

nodes-down: ## Remove the nodes
	@tools/nodes down

unit render: python-there ## Unit tests, or what the edge templates render; K=canary runs those that match, without the set-up
	@if [ -n "$(K)" ]; then tools/test/pytest $@ $(if $(filter unit,$@),tests/unit,tests/render tests/apply tests/agent) -q -k "$(K)"; \
		else $(PYTHON) tools/stages.py --verbose $@; fi

lint install default platform registration selected-faults rejected-input artifact used-hosts day2 secure grow trixie bullseye bundle-site wan faults: python-there ## One test stage, with what it needs
	@$(PYTHON) tools/stages.py --verbose $@

artifacts: python-there ## Fill the mirror in artifacts/ with Consul and consul-template
	@$(PYTHON) tools/stages.py artifacts

samples: python-there ## Build the images of the acceptance's sample services into artifacts/
	@$(PYTHON) tools/stages.py samples

bundle: python-there ## One tar file that installs a whole site without internet; SUITES="bookworm trixie" for these hosts
	@$(PYTHON) tools/stages.py bundle

setup: python-there ## Only the set-up: packages, Python, engine, images, artifacts
	@$(PYTHON) tools/stages.py setup

changed: python-there ## The test stages that the changes since main need (tools/changed.py prints them)
	@stages=$$($(PYTHON) tools/changed.py) && if [ -n "$$stages" ]; then $(PYTHON) tools/stages.py $$stages; \
		else echo "nothing differs from main"; fi

changelog: python-there ## Write CHANGELOG.md from all fragments
	@tools/setup/python && .venv/bin/python tools/changelog.py

clean: ## Remove what the targets built, the mirror included
	rm -rf .venv build artifacts
