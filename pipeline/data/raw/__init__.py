"""Ratings as other people left them, to rows that have been checked."""
