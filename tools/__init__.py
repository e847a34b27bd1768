"""What works on the results of the pipeline and is no stage of it."""
