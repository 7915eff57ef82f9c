"""One file a page: answer(request, scene) yields events and pictures (Made). None of them imports another.

Everything that takes a while looks at scene.go_on() once a step.
"""
