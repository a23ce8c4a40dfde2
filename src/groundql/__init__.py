"""GroundQL: small language models, fine-tuned to write SQL that binds to a real schema."""

__version__ = "0.1.0"
