//! Secrets in the environment reach no list of processes.

use super::*;
use crate::group;

#[test]
fn secrets_are_in_no_process_list() {
    let place = group::place();
    let mut command = place.command("sweep experiment.yaml --ranks 2 --out runs/ranks");
    let secrets = [("HF_TOKEN", "hf_open-sesame"), ("JUDGE_KEY", "sk-open-sesame")];
    let mut child = command.envs(secrets).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut seen = BTreeMap::new();
    let ended = loop {
        for pid in processes_in(&place) {
            let arguments = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            seen.insert(pid, String::from_utf8_lossy(&arguments).into_owned());
        }
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(ended.success() && seen.len() >= 2, "{ended}: {seen:?}");
    assert!(seen.values().all(|arguments| !arguments.contains("open-sesame")), "{seen:?}");
    assert!(seen.values().any(|arguments| arguments.contains("sweep")), "{seen:?}");
}
