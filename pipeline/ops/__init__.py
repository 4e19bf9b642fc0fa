"""What keeps a store of runs: a server for a team, backups, moves, work without a server."""
