"""The entry points, one thin file each: load, fit, evaluate, log."""
