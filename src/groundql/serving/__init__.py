"""One model and several databases behind HTTP: OpenAI's form, a plain one, and a web page."""
