# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The error that names who has to act."""

from __future__ import annotations

from .nginxconf import printable


class ApplyError(Exception):
    """Say why something cannot be done, and who has to act: staged, operator, platform, guard or host."""

    def __init__(self, blame: str, message: str) -> None:
        # One line for the journal and the terminal, whatever it quotes.
        message = printable(" ".join(message.split()), 4000)
        super().__init__(message)
        self.blame = blame
        self.message = message
