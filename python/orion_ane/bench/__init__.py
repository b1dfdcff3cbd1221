"""How fast Orion is here: what `orion bench` measures, and what `bench/` compares with peers.

Every figure is a median with its spread, beside the share of what this machine was measured to do
at most in the same run, and the error of what was computed.
"""
