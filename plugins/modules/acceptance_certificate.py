#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: a CA and a certificate that live for one acceptance run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: acceptance_certificate
short_description: Make a throw-away CA and a server certificate signed by it
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Makes a new CA and a server certificate on each call and returns them. Nothing is written anywhere, and the CA's key is forgotten at once.
  - The acceptance gives them to its https sample service, so that a client can prove that TLS reached the service itself.
  - Returns a name for the run as well.
requirements: [cryptography]
options:
  names:
    description: [DNS names that the certificate is good for.]
    type: list
    elements: str
    required: true
  days:
    description: [Days that the certificate is good for.]
    type: int
    default: 30
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: none
notes:
  - The result holds a private key. Use C(no_log) on the task.
"""

EXAMPLES = r"""
- name: Make a certificate for the acceptance
  trinode.platform.acceptance_certificate:
    names: [httpsfront.apps.example.org]
  delegate_to: localhost
  no_log: true
  register: certificate
"""

RETURN = r"""
ca:
  description: The CA's certificate in PEM form.
  returned: success
  type: str
certificate:
  description: The server's certificate in PEM form.
  returned: success
  type: str
key:
  description: The server's private key in PEM form.
  returned: success
  type: str
run_id:
  description: A name for the run, made from the time and a random part.
  returned: success
  type: str
started:
  description: The time of the call in seconds since 1970.
  returned: success
  type: float
"""

import secrets
import time
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils._acceptance.certificate import IMPORT_ERROR, make


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str", "required": True}, "days": {"type": "int", "default": 30}},
        supports_check_mode=True,
    )
    if IMPORT_ERROR is not None:
        module.fail_json(
            msg=missing_required_lib("cryptography"),
            exception="".join(traceback.format_exception(type(IMPORT_ERROR), IMPORT_ERROR, IMPORT_ERROR.__traceback__)),
        )
    started = time.time()
    ca, certificate, key = make(module.params["names"], module.params["days"])
    run_id = time.strftime("%Y%m%dT%H%M%S", time.gmtime(started)) + "-" + secrets.token_hex(3)
    module.exit_json(changed=False, ca=ca, certificate=certificate, key=key, run_id=run_id, started=started)


if __name__ == "__main__":
    main()
