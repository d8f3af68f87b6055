"""From stored results to something a person reads: figures, the data behind them, and one HTML page.

Reads results only: whatever a figure needs of the machine (ceilings, names) is stored in them.
"""
