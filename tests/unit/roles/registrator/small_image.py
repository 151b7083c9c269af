# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file system of a small image, made of the programs of this machine: no registry is needed."""

from __future__ import annotations

#: A shell script that puts a shell and little else into a new directory, $root.
ROOT = """
set -e
root=$(mktemp -d)
mkdir $root/bin
for program in dash sleep true false; do cp /bin/$program $root/bin/; done
ln -s dash $root/bin/sh
for library in $(ldd /bin/dash /bin/sleep | grep -o '/[^ ]*\\.so[^ ]*' | sort -u); do
    mkdir -p $root$(dirname $library)
    cp -L $library $root$library
done
"""
