"""The lab: how diffusion works, one short file a subject, every formula with its paper and equation.

Reading order: schedules (noise), sampling (back from noise), networks and data, train (from scratch), guidance;
then what looks into a loaded checkpoint: latent, filmstrip, autoencoder, text, attention, lora, memory, finetune;
latentset is the second recipe of train. page_requests says what a page can ask, pages/ answers it
(one file a page, on what context.py gives it), assets finds what names stand for, run_page saves what was made.
bundled/ holds two small models.
`python -m pipelines.lab --help` trains and samples without a page.

One notation everywhere: x_t = alpha_t x0 + sigma_t eps. A *denoiser* is a function (x_t, level) -> predicted x0, and
whatever steers a picture is a function from denoiser to denoiser, so that it goes with every sampler.

May import values, primitives (images, families, prompts, adapters, models) and generation; never the cache, the queue
or the studio: assets is given what it asks. requests, page_requests, events and assets import no torch, and this file
imports nothing.
"""
