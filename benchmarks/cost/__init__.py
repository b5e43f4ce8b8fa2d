"""What guidance costs, in FLOPs and seconds, beside the gradient through the denoiser that earlier methods take.

__main__.py          the program: settings, and the table that it prints
rows.py              the rows of the table, per generator
flops.py             counting, without running anything
seconds.py           timing, in turns
shapes.py            well-known generators as architectures with random weights
through_denoiser.py  the rivals' sampling loop
"""
