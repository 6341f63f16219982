"""The past run again: from the archive's files to a fenced topic."""
