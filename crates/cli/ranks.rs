//! `--ranks`, `--shard` and launcher variables: processes that train each run together.

use std::{
    net::TcpListener,
    num::NonZeroUsize,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};
use prospect_dist::{LaunchEnv, ProcessGroup, ZeroStage};
use prospect_model::device;

/// Options of commands that can run on several ranks.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct RankArgs {
    /// Number of processes to start on this machine, which train each run together
    ///
    /// If there are GPUs, each process gets one. torchrun and srun start ranks on several machines
    /// (docs/groups.md).
    #[arg(long, value_name = "N")]
    ranks: Option<NonZeroUsize>,
    /// Shard frozen weights and the state of full training over ranks; with =3, trained weights too
    ///
    /// These are stages 2 and 3 of ZeRO. Each pass gathers the weights that are sharded, one block
    /// ahead of their use.
    #[arg(long, value_name = "STAGE", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = zero_stage)]
    shard: Option<ZeroStage>,
}

fn zero_stage(text: &str) -> Result<ZeroStage, String> {
    match text {
        "2" => Ok(ZeroStage::Two),
        "3" => Ok(ZeroStage::Three),
        _ => Err("the stage is 2 or 3".to_owned()),
    }
}

/// Returns the option that shards as `stage` does.
pub(crate) fn shard_option(stage: ZeroStage) -> String {
    match stage {
        ZeroStage::Two => "--shard".to_owned(),
        ZeroStage::Three => format!("--shard={stage}"),
    }
}

/// Process group that this process has joined, and the ranks that it has started.
#[derive(Default)]
pub(crate) struct JoinedGroup {
    // Dropped first: the started ranks end after it.
    pub(crate) process_group: ProcessGroup,
    _children: ChildRanks,
}

/// Child processes, which end when the group does. Dropping waits for them.
#[derive(Default)]
struct ChildRanks(Vec<Child>);

impl ChildRanks {
    /// Kills the processes, which would otherwise wait for a rank 0 that never joins.
    fn kill(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
    }
}

impl Drop for ChildRanks {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

impl RankArgs {
    /// Returns the options as typed.
    pub(crate) fn options(self) -> Vec<String> {
        let ranks = self.ranks.map(|ranks| format!("--ranks {ranks}"));
        ranks.into_iter().chain(self.shard.map(shard_option)).collect()
    }

    /// Returns no group. Fails if several ranks are requested for a single-process command.
    pub(crate) fn single_process(self, what: &str) -> anyhow::Result<JoinedGroup> {
        if !self.options().is_empty() || launch_env()?.is_some() {
            bail!("{what} runs in one process: remove --ranks and --shard, and start it without a launcher");
        }
        Ok(JoinedGroup::default())
    }

    /// Joins the group that a launcher or `--ranks` starts, and returns when all ranks have joined.
    /// Without either, the process is alone.
    pub(crate) fn join(self) -> anyhow::Result<JoinedGroup> {
        let wanted = self.ranks.map_or(1, NonZeroUsize::get);
        let (launch_env, mut children) = match launch_env()? {
            Some(launch_env) if self.ranks.is_some() && launch_env.world_size != wanted => bail!(
                "--ranks is {wanted}, but a launcher has started {} ranks (WORLD_SIZE or SLURM_NTASKS): remove --ranks",
                launch_env.world_size
            ),
            Some(launch_env) => (launch_env, ChildRanks::default()),
            None if wanted > 1 => spawn_ranks(wanted)?,
            None if self.shard.is_some() => bail!(
                "--shard has no effect on one rank: add --ranks N, or start the command with torchrun or srun"
            ),
            None => return Ok(JoinedGroup::default()),
        };
        // Reports a missing GPU before waiting for the other ranks.
        let joined = match device::by_local_rank(launch_env.local_rank) {
            Ok(_) => ProcessGroup::join(&launch_env, self.shard).map_err(anyhow::Error::from),
            Err(error) => Err(error.into()),
        };
        match joined {
            Ok(process_group) => Ok(JoinedGroup { process_group, _children: children }),
            Err(error) => {
                children.kill();
                Err(error)
            }
        }
    }
}

impl JoinedGroup {
    /// Runs `work` on rank 0 first, then on the other ranks, which find the files it has prepared.
    pub(crate) fn main_process_first<T>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let group = &self.process_group.collective;
        if !self.process_group.is_main_process() {
            group.barrier()?;
        }
        let done = work()?;
        if self.process_group.is_main_process() {
            group.barrier()?;
        }
        Ok(done)
    }
}

fn launch_env() -> anyhow::Result<Option<LaunchEnv>> {
    Ok(LaunchEnv::from_variables(|name| std::env::var(name).ok())?)
}

/// Starts the other ranks with the same arguments.
fn spawn_ranks(size: usize) -> anyhow::Result<(LaunchEnv, ChildRanks)> {
    // The port is free again by the time rank 0 listens on it.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let program = std::env::current_exe()
        .context("cannot find the executable of this program to start the other ranks")?;
    let mut children = ChildRanks::default();
    for rank in 1..size {
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1)).stdin(Stdio::null()).stdout(Stdio::null());
        let [rank, size] = [rank, size].map(|number| number.to_string());
        command.envs([("RANK", &rank), ("WORLD_SIZE", &size), ("LOCAL_RANK", &rank)]);
        command.env("MASTER_ADDR", address.ip().to_string()).env("MASTER_PORT", address.port().to_string());
        match command.spawn() {
            Ok(child) => children.0.push(child),
            Err(error) => {
                children.kill();
                return Err(error).context("cannot start another rank");
            }
        }
    }
    Ok((LaunchEnv::single_machine(0, size, address.to_string()), children))
}
