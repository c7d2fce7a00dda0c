"""An AlphaPoint-style OMS to trade against: for the demo, the tests, drills and staging.

It is the other side. It shares the frame codec with us and nothing else.
"""
