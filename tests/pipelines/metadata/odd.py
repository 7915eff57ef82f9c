"""Pieces of text that are easily misread in an infotext."""

ODD = ["a red apple", " ", "\n", "\t", "猫", "👩\u200d🎨", "שלום", "\u2028", "\x85", "\r", "\r\n", "\x00", "e\u0301",
       '"', "\\", ", ", ": ", "[", "{", "(x:1.2)", "Steps: 20, Sampler: x, Seed: 1, Size: 8x8", "Negative prompt",
       "\nSteps: 20, Sampler: Euler, Seed: 5", "a Negative prompt: b", "Version: Atelier 0.0.1, Steps: 3, Seed: 1",
       "<lora:x:1>", "Size: 1x1", '{"a": [1, 2]}', "\nTemplate: {a|b}", "None", "[a", '"half', "512x512", "Model",
       "True"]
