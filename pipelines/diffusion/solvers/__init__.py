"""Solvers of the diffusion ODE and SDE: from noise to picture along given noise levels, one function a solver.

Latents are in sigma space, x = x0 + sigma * eps, where the probability flow is dx / dsigma = (x - x0(x, sigma)) / sigma
(Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv:2206.00364, eq. 1 with
s(t) = 1 and sigma(t) = t; here called EDM). Each solver is a generator that asks for x0 and is sent it, so that whoever
drives it may report, blend windows or put a mask back between two calls of the model. `walk.solve` drives one with a
plain function denoised(x, sigma). Start at walk.py; single_step.py has the simplest solvers.

Levels are Python floats, so that no step waits for a device. Fresh noise comes from a callable noise(sigma, sigma_next)
that returns unit noise, so that any source will do. To add one, write the function and name it in a table of samplers.
"""
