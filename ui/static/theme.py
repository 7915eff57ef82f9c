"""The look of the page: Gradio's own tokens in neutral greys with one accent, and a little css and script."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from .. import tooltips

_HERE = Path(__file__).parent
_ACCENT = gr.themes.colors.indigo

THEME = gr.themes.Base(
    primary_hue=_ACCENT, secondary_hue=gr.themes.colors.neutral, neutral_hue=gr.themes.colors.neutral,
    spacing_size=gr.themes.sizes.spacing_sm, radius_size=gr.themes.sizes.radius_md,
    text_size=gr.themes.sizes.text_sm,
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
    font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
).set(
    body_background_fill="*neutral_100", body_background_fill_dark="*neutral_950",
    body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_400",  # 4.5:1 and more
    input_placeholder_color="*neutral_500", input_placeholder_color_dark="*neutral_400",
    background_fill_primary="white", background_fill_primary_dark="*neutral_900",
    block_background_fill="white", block_background_fill_dark="*neutral_900",
    block_border_width="0px", block_shadow="none", block_label_background_fill="transparent",
    block_label_background_fill_dark="transparent", block_label_border_width="0px",
    block_title_text_weight="500", block_title_text_color="*neutral_600",
    block_title_text_color_dark="*neutral_300", block_label_text_color="*neutral_600",
    block_label_text_color_dark="*neutral_300",
    input_background_fill="*neutral_50", input_background_fill_dark="*neutral_800",
    input_border_width="1px", input_border_color="*neutral_200", input_border_color_dark="*neutral_700",
    input_border_color_focus="*primary_500", input_border_color_focus_dark="*primary_400",
    button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_600", button_primary_background_fill_hover_dark="*primary_500",
    button_primary_text_color="white", button_primary_text_color_dark="white",
    button_secondary_background_fill="*neutral_100", button_secondary_background_fill_hover="*neutral_200",
    button_secondary_background_fill_dark="*neutral_800", button_secondary_background_fill_hover_dark="*neutral_700",
    button_secondary_border_color="*neutral_200", button_secondary_border_color_dark="*neutral_700",
    button_large_text_weight="600", button_medium_text_weight="500", button_small_text_weight="500",
    slider_color="*primary_500", slider_color_dark="*primary_500",
)
CSS = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "preferences.css"))
SCRIPTS = "\n".join((_HERE / name).read_text(encoding="utf-8")
                    for name in ("page.js", "pictures.js", "prompt.js", "preferences.js", "drag.js", "awake.js"))
HEAD = (f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<script>\n{SCRIPTS}\n</script>" + tooltips.script())
