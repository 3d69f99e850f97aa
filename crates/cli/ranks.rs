//! `--ranks`, `--shard` and what launchers say: processes that train each run together.

use std::{
    net::TcpListener,
    num::NonZeroUsize,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};
use prospect_dist::{LaunchEnv, ProcessGroup};
use prospect_model::device;

/// Options of commands that several processes can do together.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Ranks {
    /// Start so many processes on this machine, each on a GPU of its own where there are any, that train each run together
    /// (docs/groups.md); torchrun and srun start them on several machines
    #[arg(long, value_name = "N")]
    ranks: Option<NonZeroUsize>,
    /// Keep of the frozen weights only a part on each rank, and put every matrix together when it is used
    #[arg(long)]
    shard: bool,
}

/// A group that this process has joined, and those of its members that it has started.
#[derive(Default)]
pub(crate) struct Joined {
    // Before the others, who wait for it to go.
    pub(crate) member: ProcessGroup,
    _started: Started,
}

/// Processes that end when the group does.
#[derive(Default)]
struct Started(Vec<Child>);

impl Started {
    /// Ends processes that would wait for a rank 0 that does not come.
    fn give_up(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

impl Ranks {
    /// The options as they are typed.
    pub(crate) fn words(self) -> Vec<String> {
        let ranks = self.ranks.map(|ranks| format!("--ranks {ranks}"));
        ranks.into_iter().chain(self.shard.then(|| "--shard".to_owned())).collect()
    }

    /// No group: refuses one for what one process does.
    pub(crate) fn none_for(self, what: &str) -> anyhow::Result<Joined> {
        if !self.words().is_empty() || launched()?.is_some() {
            bail!(
                "{what} is done by one process: leave --ranks and --shard out, and start it without a launcher"
            );
        }
        Ok(Joined::default())
    }

    /// Joins the group that a launcher or `--ranks` starts: returns when all members are there. Alone, if nobody does.
    pub(crate) fn join(self) -> anyhow::Result<Joined> {
        let wanted = self.ranks.map_or(1, NonZeroUsize::get);
        let (launched, mut started) = match launched()? {
            Some(launched) if self.ranks.is_some() && launched.world_size != wanted => bail!(
                "--ranks {wanted}, but a launcher has started {} ranks (WORLD_SIZE or SLURM_NTASKS): leave --ranks out",
                launched.world_size
            ),
            Some(launched) => (launched, Started::default()),
            None if wanted > 1 => start(wanted)?,
            None if self.shard => bail!(
                "--shard keeps a part of the weights on each of several ranks, and there is one: add --ranks N, or start it \
                 by torchrun or srun"
            ),
            None => return Ok(Joined::default()),
        };
        // A GPU that is not there is told before the others are waited for.
        let joined = match device::by_ordinal(launched.local_rank) {
            Ok(_) => ProcessGroup::join(&launched, self.shard).map_err(anyhow::Error::from),
            Err(error) => Err(error.into()),
        };
        match joined {
            Ok(member) => Ok(Joined { member, _started: started }),
            Err(error) => {
                started.give_up();
                Err(error)
            }
        }
    }
}

impl Joined {
    /// What `work` gives, on rank 0 before the others: what it fetches and prepares they find.
    pub(crate) fn first_then_others<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let group = &self.member.collective;
        if !self.member.is_main_process() {
            group.barrier()?;
        }
        let done = work()?;
        if self.member.is_main_process() {
            group.barrier()?;
        }
        Ok(done)
    }
}

fn launched() -> anyhow::Result<Option<LaunchEnv>> {
    Ok(LaunchEnv::from_variables(|name| std::env::var(name).ok())?)
}

/// Starts the other members, with the same arguments.
fn start(size: usize) -> anyhow::Result<(LaunchEnv, Started)> {
    // The port is free again when rank 0 listens there.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let program = std::env::current_exe().context("this program's own file, to start it again")?;
    let mut started = Started::default();
    for rank in 1..size {
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1)).stdin(Stdio::null()).stdout(Stdio::null());
        let [rank, size] = [rank, size].map(|number| number.to_string());
        command.envs([("RANK", &rank), ("WORLD_SIZE", &size), ("LOCAL_RANK", &rank)]);
        command.env("MASTER_ADDR", address.ip().to_string()).env("MASTER_PORT", address.port().to_string());
        match command.spawn() {
            Ok(child) => started.0.push(child),
            Err(error) => {
                started.give_up();
                return Err(error).context("starting another rank");
            }
        }
    }
    Ok((LaunchEnv::single_machine(0, size, address.to_string()), started))
}
