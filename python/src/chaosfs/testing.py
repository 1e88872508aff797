"""The same ``mount`` and ``dual_mount`` under the name that they had in chaosfs 0.3.0."""

from ._clients import dual_mount, mount

__all__ = ["dual_mount", "mount"]
