"""What is asked: data sets, samples, splits and their description."""
