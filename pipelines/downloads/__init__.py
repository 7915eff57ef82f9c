"""Models from the internet, only when the owner asks: by hub name, by Civitai number or by address.

events      what a running download reports: values
network     addresses that may be reached, and how: https, listed hosts, public addresses, at every redirect
sources     what a person typed -> Plan: the files, their sizes and hashes
fetch       one file -> disk, from where it was left off
place       finished files -> the folder of their kind, as their content says
downloads   Downloads: starts, pauses, resumes and stops; what was begun outlives the program

Never used to serve a visitor of a public page. May import errors, families and library;
no torch. Start reading at downloads.py. To support another site, add a function to sources.py.
"""

from .downloads import Download, Downloads
from .events import Checking, Downloaded, DownloadEvent, DownloadFailed, Downloading, Paused, Stopped

__all__ = ["Checking", "Download", "DownloadEvent", "DownloadFailed", "Downloaded", "Downloading", "Downloads",
           "Paused", "Stopped"]
