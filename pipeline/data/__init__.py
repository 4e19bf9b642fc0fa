"""Raw ratings in, Dataset out: where bytes come from, validation, time split, storage."""
