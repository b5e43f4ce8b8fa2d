"""What guidance costs, in FLOPs and seconds, beside the gradient through the denoiser that earlier methods take."""
