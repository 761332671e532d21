"""The stages of a job: one file each, one verb each; none imports another."""
