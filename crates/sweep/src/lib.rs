//! Experiment file to plan to executed runs.
