"""Tools without domain knowledge. Every other part of goscope imports them; they import none."""
