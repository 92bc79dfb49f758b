"""What runs inside the sandbox, in the student's process: cells, calls, and the walls it puts up before either.

Nothing here is trusted once student code has run: it may replace all of it. `autograde.kernel` outside counts, times
and checks whatever comes back.
"""
