//! Launcher environment variables.
//!
//! `torchrun` sets `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR` and `MASTER_PORT`. Slurm's
//! `srun` sets `SLURM_PROCID`, `SLURM_NTASKS` and `SLURM_LOCALID`; the user adds the two `MASTER_`
//! variables.

use std::time::Duration;

use crate::CollectiveError;

/// Default rendezvous timeout, without [`TIMEOUT_VARIABLE`].
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(5);

/// Variable of the rendezvous timeout in seconds.
const TIMEOUT_VARIABLE: &str = "PROSPECT_GROUP_WAIT";

/// A process's place in the group that a launcher started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchEnv {
    /// Rank among all processes, from 0.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// Rank on this machine, which selects the GPU.
    pub local_rank: usize,
    /// Address on which rank 0 listens, as `host:port`.
    pub master_address: String,
    /// Time that ranks wait for each other at the start. Default: 5 minutes.
    pub rendezvous_timeout: Duration,
}

impl LaunchEnv {
    /// Describes rank `rank` of `world_size` processes on one machine.
    pub fn single_machine(rank: usize, world_size: usize, master_address: String) -> Self {
        Self { rank, world_size, local_rank: rank, master_address, rendezvous_timeout: DEFAULT_TIMEOUT }
    }

    /// Reads a launcher's variables. Returns `None` without them, or with a world size of 1.
    ///
    /// # Errors
    /// Fails if variables are malformed, missing or contradict each other.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, CollectiveError> {
        let fail = |message: String| Err(CollectiveError::Launch(message));
        // A batch script has Slurm's variables too, but only a step is a rank.
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
        let (rank, world_size) =
            match (number(&["RANK", "SLURM_PROCID"])?, number(&["WORLD_SIZE", "SLURM_NTASKS"])?) {
                (None, None) | (_, Some(0 | 1)) => return Ok(None),
                (Some(rank), Some(world_size)) => (rank, world_size),
                (Some(rank), None) => {
                    return fail(format!("RANK is {rank}, but WORLD_SIZE is not set: set both or neither"));
                }
                (None, Some(world_size)) => {
                    return fail(format!(
                        "WORLD_SIZE is {world_size}, but RANK is not set: set both or neither"
                    ));
                }
            };
        if rank >= world_size {
            return fail(format!(
                "RANK is {rank}, but WORLD_SIZE is {world_size}: ranks go from 0 to {}",
                world_size - 1
            ));
        }
        let (Some(host), Some(port)) = (variable("MASTER_ADDR"), number(&["MASTER_PORT"])?) else {
            return fail(format!(
                "WORLD_SIZE is {world_size}, but MASTER_ADDR or MASTER_PORT is not set: torchrun sets them; \
                 under srun, set them to the host of rank 0 and a free port"
            ));
        };
        // torchrun's agent may run its own store on the port; then rank 0 listens on the next one.
        let taken = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        let port = port + usize::from(taken);
        let master_address =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let local_rank = number(&["LOCAL_RANK", "SLURM_LOCALID"])?.unwrap_or(0);
        let rendezvous_timeout = number(&[TIMEOUT_VARIABLE])?
            .map_or(DEFAULT_TIMEOUT, |seconds| Duration::from_secs(seconds as u64));
        Ok(Some(Self { rank, world_size, local_rank, master_address, rendezvous_timeout }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<LaunchEnv>, String> {
        let env = LaunchEnv::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
        env.map_err(|error| error.to_string())
    }

    /// Calls [`read`] with a master address added.
    fn read_with_master(more: &[(&str, &str)]) -> Result<Option<LaunchEnv>, String> {
        read(&[more, &[("MASTER_ADDR", "10.0.0.1"), ("MASTER_PORT", "29500")]].concat())
    }

    #[test]
    fn variables_of_torchrun_and_slurm_are_read() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read_with_master(&[("RANK", "0"), ("WORLD_SIZE", "1")]), Ok(None));
        let expected =
            LaunchEnv { local_rank: 1, ..LaunchEnv::single_machine(3, 8, "10.0.0.1:29500".to_owned()) };
        let torch = [("RANK", "3"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")];
        assert_eq!(read_with_master(&torch), Ok(Some(expected.clone())));
        let batch = [("SLURM_PROCID", "3"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "1")];
        assert_eq!(read_with_master(&batch), Ok(None));
        let slurm = [&batch[..], &[("SLURM_STEP_ID", "0")]].concat();
        assert_eq!(read_with_master(&slurm), Ok(Some(expected.clone())));

        let agent_store = [&torch[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
        assert_eq!(read_with_master(&agent_store).unwrap().unwrap().master_address, "10.0.0.1:29501");
        let timeout = [&torch[..], &[(TIMEOUT_VARIABLE, "7")]].concat();
        assert_eq!(read_with_master(&timeout).unwrap().unwrap().rendezvous_timeout, Duration::from_secs(7));
        let ipv6 = [&torch[..], &[("MASTER_ADDR", "fd00::1"), ("MASTER_PORT", "1")]].concat();
        assert_eq!(read(&ipv6).unwrap().unwrap().master_address, "[fd00::1]:1");
    }

    #[test]
    fn missing_and_malformed_variables_are_named() {
        let ranks = [("RANK", "1"), ("WORLD_SIZE", "2")];
        for (found, expected) in [
            (read(&ranks), "MASTER_ADDR or MASTER_PORT is not set"),
            (read_with_master(&[("RANK", "1")]), "RANK is 1, but WORLD_SIZE is not set"),
            (read_with_master(&[("WORLD_SIZE", "2")]), "WORLD_SIZE is 2, but RANK is not set"),
            (
                read_with_master(&[("RANK", "8"), ("WORLD_SIZE", "8")]),
                "RANK is 8, but WORLD_SIZE is 8: ranks go from 0 to 7",
            ),
            (read_with_master(&[("RANK", "x"), ("WORLD_SIZE", "8")]), "RANK is `x`, not a whole number"),
        ] {
            let error = found.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
