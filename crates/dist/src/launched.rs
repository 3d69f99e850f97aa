//! What a launcher says of a process.
//!
//! `torchrun` sets `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR` and `MASTER_PORT`; Slurm's `srun` sets `SLURM_PROCID`,
//! `SLURM_NTASKS` and `SLURM_LOCALID`, to which the two addresses are to be added.

use std::time::Duration;

use crate::CollectiveError;

/// How long members wait for each other at the start, if [`WAIT`] does not say.
const START: Duration = Duration::from_mins(5);

/// The variable that says how many seconds members wait for each other at the start.
const WAIT: &str = "PROSPECT_GROUP_WAIT";

/// What a launcher says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchEnv {
    /// The process's number among all.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Its number on its machine: which GPU it takes.
    pub local_rank: usize,
    /// Where rank 0 listens.
    pub address: String,
    /// How long members wait for each other at the start.
    pub wait: Duration,
}

impl LaunchEnv {
    /// Process `rank` of `size` processes of one machine, the first of which listens at `address`.
    pub fn here(rank: usize, size: usize, address: String) -> Self {
        Self { rank, size, local_rank: rank, address, wait: START }
    }

    /// Reads the variables of a launcher; None if there are none, or there is one process only.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, CollectiveError> {
        let fail = |message: String| Err(CollectiveError::Launch(message));
        // A batch script itself is no step: it has Slurm's variables too.
        let step = variable("SLURM_STEP_ID").is_some();
        let number = |names: &[&str]| -> Result<Option<usize>, CollectiveError> {
            let known = names.iter().filter(|name| step || !name.starts_with("SLURM"));
            let Some((name, value)) = known.into_iter().find_map(|name| Some((name, variable(name)?))) else {
                return Ok(None);
            };
            let parsed = value.trim().parse();
            parsed
                .map(Some)
                .map_err(|_| CollectiveError::Launch(format!("{name} is `{value}`, not a whole number")))
        };
        let (rank, size) = match (
            number(&["RANK", "SLURM_PROCID"])?,
            number(&["WORLD_SIZE", "SLURM_NTASKS"])?,
        ) {
            (None, None) | (_, Some(0 | 1)) => return Ok(None),
            (Some(rank), Some(size)) => (rank, size),
            (Some(rank), None) => {
                return fail(format!(
                    "RANK is {rank}, but WORLD_SIZE does not say how many ranks there are: set both, or neither"
                ));
            }
            (None, Some(size)) => {
                return fail(format!(
                    "WORLD_SIZE is {size}, but RANK does not say which of them this is: set both, or neither"
                ));
            }
        };
        if rank >= size {
            return fail(format!("RANK is {rank}, and there are {size} ranks, from 0"));
        }
        let (Some(host), Some(port)) = (variable("MASTER_ADDR"), number(&["MASTER_PORT"])?) else {
            return fail(format!(
                "there are {size} ranks, but MASTER_ADDR and MASTER_PORT do not say where rank 0 is; torchrun sets them, \
                 under srun set them to the machine of rank 0 and a free port"
            ));
        };
        // Where torchrun's agent keeps its own store at the port, the next one is ours.
        let taken = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        let port = port + usize::from(taken);
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let local_rank = number(&["LOCAL_RANK", "SLURM_LOCALID"])?.unwrap_or(0);
        let wait = number(&[WAIT])?.map_or(START, |seconds| Duration::from_secs(seconds as u64));
        Ok(Some(Self { rank, size, local_rank, address, wait }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<LaunchEnv>, String> {
        let launched = LaunchEnv::read(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
        launched.map_err(|error| error.to_string())
    }

    /// Like [`read`], with an address.
    fn of(more: &[(&str, &str)]) -> Result<Option<LaunchEnv>, String> {
        read(&[more, &[("MASTER_ADDR", "10.0.0.1"), ("MASTER_PORT", "29500")]].concat())
    }

    #[test]
    fn launchers_say_who_is_who() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(of(&[("RANK", "0"), ("WORLD_SIZE", "1")]), Ok(None));
        let expected = LaunchEnv { local_rank: 1, ..LaunchEnv::here(3, 8, "10.0.0.1:29500".to_owned()) };
        let torch = [("RANK", "3"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")];
        assert_eq!(of(&torch), Ok(Some(expected.clone())));
        let batch = [("SLURM_PROCID", "3"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "1")];
        assert_eq!(of(&batch), Ok(None));
        let slurm = [&batch[..], &[("SLURM_STEP_ID", "0")]].concat();
        assert_eq!(of(&slurm), Ok(Some(expected.clone())));

        let shared = [&torch[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
        assert_eq!(of(&shared).unwrap().unwrap().address, "10.0.0.1:29501");
        let patient = [&torch[..], &[(WAIT, "7")]].concat();
        assert_eq!(of(&patient).unwrap().unwrap().wait, Duration::from_secs(7));
        let six = [&torch[..], &[("MASTER_ADDR", "fd00::1"), ("MASTER_PORT", "1")]].concat();
        assert_eq!(read(&six).unwrap().unwrap().address, "[fd00::1]:1");
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let ranks = [("RANK", "1"), ("WORLD_SIZE", "2")];
        for (found, expected) in [
            (read(&ranks), "MASTER_ADDR and MASTER_PORT do not say where rank 0 is"),
            (of(&[("RANK", "1")]), "WORLD_SIZE does not say how many ranks"),
            (of(&[("WORLD_SIZE", "2")]), "RANK does not say which of them"),
            (of(&[("RANK", "8"), ("WORLD_SIZE", "8")]), "RANK is 8, and there are 8 ranks"),
            (of(&[("RANK", "x"), ("WORLD_SIZE", "8")]), "RANK is `x`, not a whole number"),
        ] {
            let error = found.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
