//! `--executor slurm`: on real daemons if they are installed, and error messages.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use insta::assert_snapshot;

use crate::{
    group,
    sharing::{LONG, running, signal, status, until},
    support::{Place, Run, repository},
    sweep::{assert_same, place, results},
};

/// Slurm cluster on the loopback interface, with two nodes of one core each.
struct Cluster {
    folder: PathBuf,
    daemons: Vec<(&'static str, Child)>,
}

impl Cluster {
    /// Starts the daemons in a folder. slurmd starts jobs as root only.
    fn start(folder: PathBuf) -> Self {
        for name in ["state", "spool"] {
            fs_err::create_dir_all(folder.join(name)).unwrap();
        }
        fs_err::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let mut cluster = Self { folder, daemons: Vec::new() };
        let key = cluster.folder.join("munge.key");
        let random = Command::new("head").args(["-c", "1024", "/dev/urandom"]).output().unwrap();
        fs_err::write(&key, random.stdout).unwrap();
        fs_err::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        // All three ports are bound before any is released.
        let ports = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [control, first, second] = ports.each_ref().map(|port| port.local_addr().unwrap().port());
        drop(ports);
        let dir = cluster.folder.display();
        let config = format!(
            "\
ClusterName=prospect
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={control}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/munge.socket,cred_expire=5
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool/%n
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd-%n.pid
SlurmctldLogFile={dir}/slurmctld.log
SlurmdLogFile={dir}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1
SlurmdTimeout=6
MinJobAge=2
KillWait=1
ReturnToService=2
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={first} CPUs=1
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={second} CPUs=1
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"
        );
        fs_err::write(cluster.config(), config).unwrap();
        let munge =
            ["key-file=munge.key", "socket=munge.socket", "pid-file=munged.pid", "seed-file=munge.seed"];
        let options = munge.map(|option| {
            let (name, file) = option.split_once('=').unwrap();
            format!("--{name}={dir}/{file}")
        });
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        cluster.daemon("munged", "munged", &[&["--foreground", "--force"], &options[..]].concat());
        let socket = cluster.folder.join("munge.socket");
        until("munged", || socket.exists());
        cluster.daemon("slurmctld", "slurmctld", &["-D"]);
        cluster.daemon("n1", "slurmd", &["-D", "-N", "n1"]);
        cluster.daemon("n2", "slurmd", &["-D", "-N", "n2"]);
        until("two nodes", || {
            cluster.output_of("sinfo", &["--noheader", "--Node", "--format=%t"]) == "idle\nidle\n"
        });
        cluster
    }

    fn config(&self) -> PathBuf {
        self.folder.join("slurm.conf")
    }

    fn daemon(&mut self, name: &'static str, program: &str, args: &[&str]) {
        let sbin = Path::new("/usr/sbin").join(program);
        let log = fs_err::File::create(self.folder.join(format!("{name}.out"))).unwrap().into_file();
        let child = Command::new(if sbin.exists() { sbin } else { program.into() })
            .args(args)
            .env("SLURM_CONF", self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.daemons.push((name, child.unwrap()));
    }

    fn output_of(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program).args(args).env("SLURM_CONF", self.config()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Kills the daemon `name`.
    fn kill(&mut self, name: &str) {
        for (_, child) in self.daemons.iter_mut().filter(|(other, _)| *other == name) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Runs `prospect` with arguments on a machine of the cluster.
    fn prospect(&self, place: &Place, args: &str) -> Run {
        place
            .run_with(args, &[("SLURM_CONF", self.config().to_str().unwrap()), ("PROSPECT_HEARTBEAT", "0.5")])
    }

    fn wait_for(&self, job: &str) {
        until("the end of the job", || {
            let left = self.output_of("squeue", &["--noheader", "--jobs", job]);
            left.is_empty()
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.output_of("scancel", &["--user=root"]);
        std::thread::sleep(std::time::Duration::from_millis(500));
        for (_, child) in self.daemons.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Removes the padding of columns.
fn squeeze(text: &str) -> String {
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

mod needs_slurm {
    use super::*;

    #[test]
    #[ignore = "needs root and Slurm"]
    fn workers_of_a_real_cluster_run_a_sweep() {
        let place = place();
        let cluster = Cluster::start(place.path("slurm"));
        let alone = place.run("sweep experiment.yaml --out runs/alone");
        assert_eq!(alone.code, Some(0), "{alone}");
        place.write(
            "slurm.yaml",
            "workers: 3\npartition: test\ntime: 00:10:00\nsbatch: { comment: 'it is # a test' }\n",
        );
        let sweep = "sweep experiment.yaml --executor slurm --out runs/cluster";

        place.write("wrong.yaml", "workers: 3\npartition: tset\n");
        let wrong = cluster.prospect(&place, &format!("{sweep} --profile wrong.yaml"));
        assert_snapshot!(wrong, @r"
        exit code 1
        --- stdout
        --- stderr
        error: wrong.yaml:2: `partition`: Slurm refused the job; change it and submit again
          sbatch: error: invalid partition specified: tset
          sbatch: error: Batch job submission failed: Invalid partition name specified
        ");

        let submitted = cluster.prospect(&place, sweep);
        assert_snapshot!(submitted, @r"
        exit code 0
        --- stdout
        1
        --- stderr
        submitted job 1: 3 workers for 4 remaining runs
        see progress with `prospect sweep status runs/cluster`, cancel with `scancel 1`; run this command again when they have ended
        ");
        let again = cluster.prospect(&place, sweep);
        assert_eq!((again.code, again.stdout.as_str()), (Some(0), submitted.stdout.as_str()), "{again}");
        assert!(again.stderr.starts_with("job 1 already has workers for the 4 remaining runs ("), "{again}");
        let looked = cluster.prospect(&place, "sweep status runs/cluster --json");
        let looked: serde_json::Value = serde_json::from_str(&looked.stdout).unwrap();
        assert_eq!(
            (&looked["slurm"]["job"], looked["slurm"]["tasks"].as_array().unwrap().len()),
            (&"1".into(), 3)
        );
        assert!(looked["slurm"].get("note").is_none(), "{looked}");

        cluster.wait_for("1");
        let logs = (0..3).map(|task| {
            fs_err::read_to_string(place.path(&format!("runs/cluster/slurm/1_{task}.log"))).unwrap()
        });
        let logs: Vec<String> = logs.collect();
        let finished: usize = logs
            .iter()
            .flat_map(|log| log.lines().filter_map(|line| line.split_once(" runs finished")))
            .map(|(count, _)| count.parse::<usize>().unwrap())
            .sum();
        assert_eq!(finished, 4, "{logs:#?}");
        assert_same(&results(&place, "runs/alone"), &results(&place, "runs/cluster"));
        assert!(logs.iter().any(|log| log.ends_with("runs/cluster/report/index.html\n")), "{logs:#?}");

        until("that Slurm forgets the job", || {
            !cluster.prospect(&place, "sweep status runs/cluster").stdout.contains("completed")
        });
        let forgotten = cluster.prospect(&place, "sweep status runs/cluster").stdout;
        let (_, workers) = forgotten.split_once("== Workers").unwrap();
        assert_snapshot!(squeeze(workers), @r"
        : Slurm job 1
        Slurm no longer knows tasks 0, 1, 2 (`sacct`: Slurm accounting storage is disabled); the table of runs shows what they have done
        ");
        let nothing_left = cluster.prospect(&place, sweep);
        assert_eq!(nothing_left.code, Some(0), "{nothing_left}");
        assert!(nothing_left.stderr.contains("0 runs finished, 4 already done\n"), "{nothing_left}");
        assert_eq!(nothing_left.stdout, "runs/cluster/report/index.html\n");
    }

    #[test]
    #[ignore = "needs root and Slurm"]
    fn a_dataset_is_prepared_by_a_real_cluster() {
        let place = place();
        let cluster = Cluster::start(place.path("slurm"));
        let prepare = r#"prepare data.yaml --set source={"kind":"hh","path":"hh.jsonl"}"#;
        let fixture = fs_err::read_to_string(repository("tests/fixtures/hh.jsonl")).unwrap();
        // Parts consist of blocks of 1024 records.
        let usable: String = fixture.split_inclusive('\n').take(5).collect();
        place.write("hh.jsonl", usable.repeat(600));
        assert_eq!(place.run(&format!("{prepare} --out whole")).code, Some(0));
        place.write("slurm.yaml", "workers: 3\ntime: 00:10:00\n");

        let submitted = cluster.prospect(&place, &format!("{prepare} --out parts --executor slurm"));
        assert_snapshot!(submitted, @r"
        exit code 0
        --- stdout
        2
        --- stderr
        submitted job 1 (3 tasks that read the input) and job 2 (merges the parts); cancel with `scancel 1 2`, resume with the same command
        ");
        let again = cluster.prospect(&place, &format!("{prepare} --out parts --executor slurm"));
        assert_snapshot!(again, @r"
        exit code 0
        --- stdout
        2
        --- stderr
        jobs of an earlier call are queued or running, up to 2: submitted none
        ");
        cluster.wait_for("2");
        let files = |dataset: &str| {
            ["kto/train", "kto/test", "dpo/train", "dpo/test"].map(|part| {
                fs_err::read(place.path(&format!("{dataset}/{part}-00000-of-00001.parquet"))).unwrap()
            })
        };
        assert!(files("whole") == files("parts"));
        let there = cluster.prospect(&place, &format!("{prepare} --out parts --executor slurm"));
        assert!(there.stderr.contains("up to date") && there.stdout == "parts\n", "{there}");

        // A failed part cancels the merge job.
        let fails = format!("{prepare} --strict --out bad --executor slurm");
        place.write("hh.jsonl", format!("{}not a record\n", usable.repeat(600)));
        let last = cluster.prospect(&place, &fails).stdout.trim().parse::<u32>().unwrap();
        cluster.wait_for(&last.to_string());
        let log =
            fs_err::read_to_string(place.path(&format!("bad.shards/slurm/{}_3.log", last - 1))).unwrap();
        assert!(log.contains("hh.jsonl:3001: "), "{log}");
        assert!(!place.path("bad").exists() && place.path("bad.shards/00001-of-00003.shard").exists());
    }

    #[test]
    #[ignore = "needs root and Slurm"]
    fn srun_starts_the_ranks_of_a_group() {
        let place = group::place();
        let cluster = Cluster::start(place.path("slurm"));
        let alone = place.run("sweep experiment.yaml --out runs/alone");
        assert_eq!(alone.code, Some(0), "{alone}");
        let command = place.command("sweep experiment.yaml --shard --out runs/two");
        let output = Command::new("srun")
            .args(["--nodes=2", "--ntasks=2", "--ntasks-per-node=1"])
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(place.path(""))
            .env("SLURM_CONF", cluster.config())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", group::free_port().to_string())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        // Only rank 0 prints.
        assert_eq!(told.matches("2 runs finished").count(), 1, "{told}");
        assert_same(&group::results(&place, "runs/alone"), &group::results(&place, "runs/two"));
    }

    #[test]
    #[ignore = "needs root and Slurm"]
    fn a_killed_worker_and_a_lost_node_lose_nothing() {
        let place = place();
        let mut cluster = Cluster::start(place.path("slurm"));
        let alone = place.run(&format!("sweep experiment.yaml {LONG} --out runs/alone"));
        assert_eq!(alone.code, Some(0), "{alone}");
        place.write("slurm.yaml", "workers: 2\n");
        let sweep = format!("sweep experiment.yaml {LONG} --executor slurm --out runs/cluster");
        let submitted = cluster.prospect(&place, &sweep);
        assert_eq!((submitted.code, submitted.stdout.as_str()), (Some(0), "1\n"), "{submitted}");
        let workers = |count: usize| {
            until("running runs", || running(&place, "runs/cluster").len() >= count);
            running(&place, "runs/cluster")
        };
        // A worker is killed: the other one takes over its run. It ends the sweep, or its node is lost.
        let (run, who) = workers(2).swap_remove(0);
        assert!(who.starts_with("Slurm job 1_"), "{who}");
        let claim = place.path("runs/cluster/claims").join(run.file_name().unwrap());
        signal("KILL", holder(&claim));
        until("another worker at the run", || holder_of(&claim).is_none_or(|(_, job)| !who.contains(&job)));

        // A node is lost: Slurm requeues its task, and a worker on the other node resumes the run.
        let (run, _) = workers(1).swap_remove(0);
        let (pid, _) = holder_of(&place.path("runs/cluster/claims").join(run.file_name().unwrap())).unwrap();
        let node = environment(pid, "SLURMD_NODENAME");
        cluster.kill(&node);
        let step = parent(pid);
        signal("KILL", step);
        signal("KILL", pid);
        until("the end of the sweep", || {
            status(&place, "runs/cluster").is_some_and(|status| status["counts"]["finished"] == 4)
        });
        cluster.wait_for("1");
        assert_same(&results(&place, "runs/alone"), &results(&place, "runs/cluster"));
        assert!(place.path("reports/cluster/index.html").exists());
    }
}

/// Returns the process and the Slurm job of the last claim in a folder; None if it was released.
fn holder_of(claim: &Path) -> Option<(u32, String)> {
    let numbers =
        fs_err::read_dir(claim).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let last = numbers.max_by_key(|number| number.parse::<u64>().unwrap()).unwrap();
    let text = fs_err::read_to_string(claim.join(last)).ok()?;
    let holder: serde_json::Value = serde_json::from_str(text.lines().next()?).ok()?;
    let pid = holder["pid"].as_u64()? as u32;
    (!text.contains("given up")).then(|| (pid, holder["job"].as_str().unwrap().to_owned()))
}

fn holder(claim: &Path) -> u32 {
    holder_of(claim).unwrap().0
}

fn environment(pid: u32, name: &str) -> String {
    let all = fs_err::read(format!("/proc/{pid}/environ")).unwrap();
    let of_name = all
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy)
        .find_map(|variable| Some(variable.strip_prefix(name)?.strip_prefix('=')?.to_owned()));
    of_name.unwrap()
}

fn parent(pid: u32) -> u32 {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// Returns a folder with mocks of Slurm's programs. Each prints the given text and exits with the
/// given code.
fn mock_programs(place: &Place, programs: &[(&str, &str, i32)]) -> String {
    let folder = place.path("programs");
    fs_err::create_dir_all(&folder).unwrap();
    for (name, says, code) in programs {
        let path = folder.join(name);
        let to = if *code == 0 { "" } else { " >&2" };
        fs_err::write(&path, format!("#!/bin/sh\nprintf '%s\\n' '{says}'{to}\nexit {code}\n")).unwrap();
        fs_err::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    folder.display().to_string()
}

#[test]
fn the_job_script_is_printed_and_saved() {
    let place = place();
    place.write(
        "profile.yaml",
        "workers: 8\npartition: gpu\naccount: my-project\ngpus: 1\ngpu_type: a100\ncpus: 8\nmemory: 64GiB\ntime: 12:00:00\n\
         modules: [cuda/12.4]\nprologue: ['export HF_HUB_OFFLINE=1']\nlaunch: apptainer exec --nv prospect.sif prospect\n\
         sbatch: { constraint: 'nvlink&big', exclusive: null }\n",
    );
    let sweep = "sweep experiment.yaml --executor slurm --profile profile.yaml --jobs 2 --only method=kto --set seeds=[0,1]";
    let run = place.run(&format!("{sweep} --dry-run"));
    assert_snapshot!(run, @r"
    exit code 0
    --- stdout
    #!/bin/bash
    # Workers of a sweep, written by `prospect sweep --executor slurm`; the next call overwrites it.
    #SBATCH --requeue
    #SBATCH --job-name=experiment
    #SBATCH --array=0-1
    #SBATCH --nodes=1
    #SBATCH --ntasks=1
    #SBATCH --chdir=[folder]
    #SBATCH --output=[folder]/runs/experiment/slurm/%A_%a.log
    #SBATCH --open-mode=append
    #SBATCH --partition=gpu
    #SBATCH --account=my-project
    #SBATCH --gres=gpu:a100:1
    #SBATCH --cpus-per-task=8
    #SBATCH --mem=65536M
    #SBATCH --time=12:00:00
    #SBATCH --constraint='nvlink&big'
    #SBATCH --exclusive
    set -e
    module load cuda/12.4
    export HF_HUB_OFFLINE=1
    exec apptainer exec --nv prospect.sif prospect sweep experiment.yaml --set 'seeds=[0,1]' --out runs/experiment --jobs 2 --only method=kto --executor worker
    --- stderr
    ");
    assert!(!place.path("runs").exists());
    let path = mock_programs(&place, &[("sbatch", "77;cluster", 0)]);
    let submitted = place.run_with(sweep, &[("PATH", &path)]);
    assert_snapshot!(submitted, @r"
    exit code 0
    --- stdout
    77
    --- stderr
    submitted job 77: 2 workers for 4 remaining runs
    see progress with `prospect sweep status runs/experiment`, cancel with `scancel 77`; run this command again when they have ended
    ");
    let kept = fs_err::read_to_string(place.path("runs/experiment/slurm/submit.sh")).unwrap();
    let shown = run.stdout.replace("[folder]", &place.path("").canonicalize().unwrap().display().to_string());
    assert_eq!(kept, shown);

    // Before any worker has started: with a Slurm that still knows the job, and one that does not.
    let path = mock_programs(&place, &[("squeue", "0|RUNNING|n7|1:02|None\n1|PENDING||0:00|Resources", 0)]);
    let looked = place.run_with("sweep status experiment", &[("PATH", &path)]).stdout;
    assert_snapshot!(squeeze(looked.split_once("== Workers").unwrap().1), @r"
    : Slurm job 77
    task state node time reason log
    0 running n7 1:02
    1 pending 0:00 Resources
    ");
    mock_programs(
        &place,
        &[
            ("squeue", "slurm_load_jobs error: Invalid job id specified", 1),
            ("sacct", "77_0|COMPLETED|n7|00:01:02|0:0\n77_1|CANCELLED by 0|n8|00:00:02|0:15", 0),
        ],
    );
    let looked = place.run_with("sweep status experiment", &[("PATH", &path)]).stdout;
    assert_snapshot!(squeeze(looked.split_once("== Workers").unwrap().1), @r"
    : Slurm job 77
    task state node time reason log
    0 completed n7 00:01:02
    1 cancelled n8 00:00:02 exit code 0:15
    ");
}

#[test]
fn the_job_scripts_that_prepare_a_dataset_are_printed() {
    let place = place();
    place.write("slurm.yaml", "workers: 4\nmemory: 8GiB\n");
    let prepare = "prepare data.yaml --set split.test_fraction=0.5 --strict";
    let run = place.run(&format!("{prepare} --executor slurm --dry-run"));
    let program = assert_cmd::cargo::cargo_bin!("prospect").display().to_string();
    assert_snapshot!(run.to_string().replace(&program, "[prospect]"), @r"
    exit code 0
    --- stdout
    #!/bin/bash
    # Part of preparing a dataset, written by `prospect prepare --executor slurm`; the next call overwrites it.
    #SBATCH --requeue
    #SBATCH --job-name=data
    #SBATCH --array=1-4
    #SBATCH --nodes=1
    #SBATCH --ntasks=1
    #SBATCH --chdir=[folder]
    #SBATCH --output=[folder]/data/data.shards/slurm/%A_%a.log
    #SBATCH --open-mode=append
    #SBATCH --mem=8192M
    set -e
    exec [prospect] prepare data.yaml --out data/data --set split.test_fraction=0.5 --strict --shard $SLURM_ARRAY_TASK_ID/4

    #!/bin/bash
    # Part of preparing a dataset, written by `prospect prepare --executor slurm`; the next call overwrites it.
    #SBATCH --requeue
    #SBATCH --job-name=data
    #SBATCH --nodes=1
    #SBATCH --ntasks=1
    #SBATCH --chdir=[folder]
    #SBATCH --output=[folder]/data/data.shards/slurm/%j.log
    #SBATCH --open-mode=append
    #SBATCH --dependency=afterok:JOB
    #SBATCH --kill-on-invalid-dep=yes
    #SBATCH --mem=8192M
    set -e
    exec [prospect] prepare data.yaml --out data/data --set split.test_fraction=0.5 --strict --merge
    --- stderr
    ");
    assert!(!place.path("data").exists() && !place.path("data.shards").exists());
    assert_snapshot!(place.run(&format!("{prepare} --profile slurm.yaml")).stderr, @"error: --profile and --dry-run have no effect without --executor slurm: add it or remove them");
    fs_err::remove_file(place.path("slurm.yaml")).unwrap();
    assert_snapshot!(place.run(&format!("{prepare} --executor slurm")).stderr, @"error: --executor slurm needs a profile, but there is no slurm.yaml; write one (docs/slurm.md) or give it with --profile");
}

#[test]
fn errors_say_what_to_do() {
    let place = place();
    let sweep = "sweep experiment.yaml --executor slurm";
    let path = mock_programs(&place, &[]);
    let said = |more: &str| place.run_with(&format!("{sweep}{more}"), &[("PATH", &path)]).stderr;
    assert_snapshot!(said(""), @"error: --executor slurm needs a profile, but there is no slurm.yaml; write one (docs/slurm.md) or give it with --profile");
    place.write("slurm.yaml", "workers: 2\npartion: gpu\n");
    assert_snapshot!(said(""), @"error: slurm.yaml:2: `partion`: unknown field `partion`, expected one of `workers`, `partition`, `account`, `qos`, `gpus`, `gpu_type`, `cpus`, `memory`, `time`, `modules`, `prologue`, `launch`, `sbatch`; did you mean `partition`?");
    place.write("slurm.yaml", "workers: 2\npartition: gpu\n");
    assert_snapshot!(said(""), @"error: cannot start `sbatch` (No such file or directory (os error 2)): run this on a login node of the cluster, or leave --executor out");
    mock_programs(
        &place,
        &[(
            "sbatch",
            "sbatch: error: invalid partition specified: gpu\nsbatch: error: Batch job submission failed: Invalid partition name specified",
            1,
        )],
    );
    assert_snapshot!(said(""), @r"
    error: slurm.yaml:2: `partition`: Slurm refused the job; change it and submit again
      sbatch: error: invalid partition specified: gpu
      sbatch: error: Batch job submission failed: Invalid partition name specified
    ");
    mock_programs(
        &place,
        &[("sbatch", "5", 0), ("squeue", "slurm_load_jobs error: Unable to contact slurm controller", 1)],
    );
    assert!(said("").starts_with("submitted job 5: 2 workers for 4 remaining runs\n"));
    assert_snapshot!(said(""), @"error: cannot tell whether job 5 is still active, so nothing is submitted: `squeue`: slurm_load_jobs error: Unable to contact slurm controller");
    assert_snapshot!(place.run("sweep experiment.yaml --profile slurm.yaml").stderr, @"error: --profile has no effect without --executor slurm: give both or neither");
    assert_snapshot!(place.run("validate slurm.yaml").stdout, @"slurm.yaml: ok (slurm, by its keys)");
    let failed = place.run("sweep experiment.yaml --executor slrum");
    assert_eq!(failed.code, Some(2), "{failed}");
}
