//! Checks of the kernels without a GPU: compiled as C++ with `cuda/shim.h`, run by emulated threads
//! and compared with their twins.

// Helpers may panic, as tests do.
#![allow(clippy::unwrap_used)]

use prospect_kernels::{
    Element, Kernel, KernelParameter, Launch, ParameterKind, ScalarType, Source,
    check::{self, Argument, Machine},
    kernels,
};
use prospect_testkit::emulator::Emulator;

#[test]
fn kernels_agree_with_their_twins() {
    let mut emulator = Emulator::for_all_kernels();
    let checks = check::all(&mut emulator);
    let failed: Vec<_> = checks.iter().filter(|check| !check.passed()).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), checks.len());
    for kernel in kernels() {
        assert!(checks.iter().any(|check| check.entry == kernel.entry), "{} is not checked", kernel.entry);
    }
}

#[test]
fn sources_have_the_described_parameters() {
    let emulator = Emulator::for_all_kernels();
    let mut described: Vec<String> = kernels().iter().map(Kernel::signature).collect();
    described.sort();
    assert_eq!(emulator.signatures(), described);
}

static FAULTY: Source = Source {
    name: "faulty",
    text: concat!(
        include_str!("../../cuda/common.cuh"),
        "\n#line 1 \"faulty.cu\"\n",
        include_str!("faulty.cu")
    ),
};

#[test]
fn the_emulator_detects_faults() {
    let float = ScalarType::Float(Element::F32);
    let parameters = vec![
        KernelParameter { name: "y", kind: ParameterKind::Write(float) },
        KernelParameter { name: "x", kind: ParameterKind::Read(float) },
    ];
    let kernel =
        |entry: &str| Kernel { source: &FAULTY, entry: entry.to_owned(), parameters: parameters.clone() };
    let faults = [
        ("correct", ""),
        ("reads_before_all_have_written", "depends on the order"),
        ("writes_before_all_have_read", "depends on the order"),
        ("leaves_a_barrier_out", "not all threads reach a barrier"),
        ("waits_at_two_barriers", "threads wait at different barriers"),
        ("depends_on_the_order", "depends on the order"),
        ("writes_beyond_shared_memory", "heap-buffer-overflow"),
        ("reads_beyond_a_buffer", "heap-buffer-overflow"),
    ];
    let mut emulator = Emulator::build(&faults.map(|(entry, _)| kernel(entry)));
    let launch = Launch { grid: [1, 1], block: 64, shared_bytes: 64 * 4 };
    let x: Vec<f32> = (0..64u8).map(f32::from).collect();
    for (entry, message) in faults {
        if message == "heap-buffer-overflow" && !emulator.sanitized() {
            continue;
        }
        let mut arguments = [Argument::Buffer(vec![0; 4]), Argument::Buffer(Element::F32.encode(&x))];
        let outcome = emulator.run(&kernel(entry), &launch, &mut arguments);
        match outcome {
            Ok(()) => {
                assert_eq!(message, "", "{entry} passed");
                assert_eq!(arguments[0], Argument::Buffer(Element::F32.encode(&[2016.0])));
            }
            Err(error) => assert!(!message.is_empty() && error.contains(message), "{entry}: {error}"),
        }
    }
}
