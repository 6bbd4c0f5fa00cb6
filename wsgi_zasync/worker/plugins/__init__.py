# SPDX-License-Identifier: ZPL-2.1
"""The plugins that come with the worker, and the one way out to the network for them all.

Whatever opens a connection does it through ``outgoing``; no other module here may.
"""
