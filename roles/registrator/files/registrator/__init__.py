# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the local Consul agent's services equal to the containers that run on this host."""

from __future__ import annotations

__version__ = "1.0.0"
