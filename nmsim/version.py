"""Versions: of the package, and of the model whose numbers it gives."""

from __future__ import annotations

__version__ = "0.1.0"

MODEL_VERSION = "5"
"""Changes whenever a timing or an energy changes: results of another model version are never mixed or resumed."""
