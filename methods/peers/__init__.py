"""Peers: trainers of other libraries behind our contract, so that their results can be compared with ours.

A peer trains the policy's own U-Net and adapter, on the harness's prompts, reward and meter, with its own optimiser and
the global random state. Its attribute `own_trainer` exempts it from some conformance checks. The library is an
optional extra (`peers`) that is imported only when a method is built: planning and listing work without it.

    trl_alignprop.py   TRL's AlignPropTrainer
    trl_ddpo.py        TRL's DDPOTrainer
    trl_method.py      the common part of both: settings, the bookkeeping of a step, the method's state
    pipeline.py        our policy as TRL's pipeline (the one file that imports TRL at its top)
    random_state.py    a private copy of the global random state for a library that draws from it

To add a peer, write a method like any other (see CONTRIBUTING.md) whose `requires` names the pinned distribution.
"""
