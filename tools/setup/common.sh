# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# What the set-up scripts share. To be sourced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# One sentence that says what is missing and what to do about it.
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Runs as root: directly, or through sudo where that needs no password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif sudo -n true 2>/dev/null; then
        sudo --preserve-env=DEBIAN_FRONTEND,LC_ALL "$@"
    else
        fail "'$1' must run as root, and sudo wants a password here: start this as root, or run 'sudo -v' first"
    fi
}
