"""Rubrics, programmatic checks and judges: is this response the behaviour in the wrong place?"""
