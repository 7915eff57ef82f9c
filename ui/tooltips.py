"""What buttons, and controls without a line of their own, say when the pointer rests on them or a reader reads them.

Everything else declares its words where it is built, as `info`. To add one, name it here by the end of its id.
"""

from __future__ import annotations

import json

# An element's id, or how the ids of all tabs end -> words. Of several that fit, the longest counts.
TIPS = {
    "model": "The checkpoint that draws. Another one may bring its own steps, size and guidance along.",
    "help-open": "Keys, language, and what the page does when a long run ends.",
    "queue-open": "What runs and what waits; ends a job.",
    "queue-end": "Ends the chosen job after its step. What is finished stays.",
    "queue-end-all": "Ends every job of whoever asked for the chosen one.",
    "queue-restart": "Gives up on a job that does not go on. It is possible only while one hangs.",
    "-generate": "Makes the pictures. Ctrl + Enter does the same from any box.",
    "-stop": "Ends the run after this step. What is finished stays.",
    "-skip": "Gives this picture up and goes on with the next one.",
    "-square": "As wide as high, with as many pixels as the model likes best.",
    "-portrait": "Higher than wide, with as many pixels as the model likes best.",
    "-landscape": "Wider than high, with as many pixels as the model likes best.",
    "-swap": "Exchanges width and height.",
    "-random-seed": "Draws a new seed for every picture.",
    "-reuse-seed": "Takes the seed of the picture that is shown, so that it can be made again.",
    "-lock-seed": "Keeps the seed of the picture that is shown: what changes then comes from the settings alone.",
    "-edit-styles": "Shows all styles, to change them and to add others.",
    "-many-file": "Takes the prompts of a text file, one a line.",
    "-many-pictures": "Each picture is drawn again with the settings of this page.",
    "-preset-save": "Keeps the settings of this page under the name above.",
    "-preset-default": "Takes these settings whenever this model is chosen.",
    "-preset-delete": "Forgets the preset. The settings of this page stay.",
    "-send-txt2img": "Takes the settings of this picture to Text to image.",
    "-send-img2img": "Takes this picture and its settings to Image to image, to draw it again.",
    "-send-inpaint": "Takes this picture and its settings to Inpaint, to draw a part of it again.",
    "-send-upscale": "Takes this picture and its settings to Upscale, to enlarge it.",
    "-send-image_info": "Shows the settings that lie in this picture's file.",
    "-compare": "Lays two pictures under one slider: the pinned one, or the one it was made from, and this one.",
    "-pin": "Keeps this picture, to compare others with it.",
    "-download": "Saves this picture's file, with its settings in it.",
    "-delete": "Removes this picture and its file, after a question.",
    "-again-hires": "Draws this picture again, larger, with the same seed.",
    "-again-seed": "The same settings with the next seed: another picture.",
    "-again-steps": "The same picture with half as many steps again: finer, seldom different.",
    "-again-sampler": "The same settings with the next sampler of the list.",
    "-again-variation": "A picture that is a little different: another seed is mixed in.",
    "-prompt-models": "Shows the models of this machine, and some to fetch that know far more words.",
    "models-starter": "The model to fetch: what it is good for, its size and its licence.",
    "models-starter-download": "Fetches the chosen model into the data folder. Nothing is fetched before.",
    "-upload-mask": "Takes a mask from a file: white is drawn again, black stays.",
    "-clear-mask": "Takes away everything that was painted.",
    "-use-result": "Goes on with the result: it becomes the picture to paint on.",
    "-open": "Takes these settings to the tab that does it at full size.",
    "train-upload": "What is learned from. Files of one name belong together: a.png and a.txt.",
    "train-table": "One line for each picture. A caption can be typed over; it is saved at once.",
    "train-swap": "Replaces these words in all captions.",
    "train-undo": "Brings back the captions as they were.",
    "train-start": "Begins to learn. The page may be closed meanwhile.",
    "train-probe": "Tries a few steps and says how long all of them take, and how much memory.",
    "train-clone": "Fills the form with the settings of this run.",
    "train-pause": "Saves exactly where it is, and gives the device to others until Resume.",
    "train-stop": "Ends the run after this step. Everything is saved, and Resume goes on.",
    "train-sample": "Draws the sample prompts after this step.",
    "train-resume": "Goes on where the run was paused or stopped.",
    "train-what": "What the curve shows.",
    "train-use": "Writes the LoRA into the prompt of Text to image.",
    "train-merge": "Puts the LoRA into the weights of the chosen model, and saves that as a new one.",
    "models-kind": "Shows files of this kind only.",
    "models-view": "Small pictures, or one line for each file.",
    "models-downloads": "What is fetched, waits or has arrived. Choose one to pause it, to go on or to give it up.",
    "models-choose": "Draws with this checkpoint from now on.",
    "models-use": "Makes the next picture with it.",
    "models-negative": "Writes its name into the negative prompt: the picture keeps away from it.",
    "models-convert": "Writes its weights into a safetensors file beside it, which can be used.",
    "models-download": "Fetches the file into the folder of its kind.",
    "models-pause": "Keeps what has come, until Go on.",
    "models-resume": "Goes on where the download was paused.",
    "models-stop": "Ends the download and removes what has come.",
    "models-before": "The page before of the list.",
    "models-after": "The next page of the list.",
    "models-refresh": "Looks for files that are new or gone.",
    "style-save": "Keeps the style under its name.",
    "style-delete": "Removes the style. The file as it was stays beside it.",
    "style-upload": "Adds all styles of a file as AUTOMATIC1111 writes it.",
    "guide-done": "Hides these steps. They can be shown again under ?",
    "guide-again": "Shows the three steps of the first visit.",
}


def tip(elem_id: str | None) -> str:
    """The words of an element; "" when it needs none."""
    fitting = (end for end in TIPS if elem_id == end or end.startswith("-") and (elem_id or "").endswith(end))
    return TIPS.get(max(fitting, key=len, default=""), "")


def script() -> str:
    """The words as a script of the page; the shorter endings first, so that the longest has the last word."""
    ordered = dict(sorted(TIPS.items(), key=lambda pair: len(pair[0])))
    return f"<script>window.atelierTips = {json.dumps(ordered)}</script>"
