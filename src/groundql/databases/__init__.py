"""What is asked of: schema reading, values, and the one place that runs SQL a model wrote."""
