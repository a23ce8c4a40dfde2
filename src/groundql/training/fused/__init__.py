"""The fused training step: decoder layers with a hand-written backward, for memory and speed.

`model` joins the parts: `weights` (frozen linears with their adapters as one matrix), `layer` (forward and backward of
a decoder layer), `flash` and `plain_attention` (attention over packs), `head` (loss at label positions). Element-wise
work is in `plain` (torch, any device) and `kernels` (Triton, CUDA).
"""
