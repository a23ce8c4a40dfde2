"""Question and schema to prompt, and a model's text back to SQL."""
