"""What survives faults: kills, signals, full disks and moved folders, in every command, with bytes compared."""
