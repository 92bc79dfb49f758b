"""The grading harness on nbgrader: build, intake, sandbox, execution, judging and reports."""
