//! SHA-256 hash of an inline script, for the page's Content-Security-Policy.

/// Returns the source expression that allows `script`: `'sha256-BASE64'`.
pub(super) fn source_expression(script: &str) -> String {
    format!("'sha256-{}'", base64(&sha256(script.as_bytes())))
}

/// Computes SHA-256 (FIPS 180-4), the fastest hash that this policy supports.
fn sha256(message: &[u8]) -> [u8; 32] {
    let primes: Vec<u32> =
        (2..312_u32).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).collect();
    // Constants: the first 32 fractional bits of the roots of the first primes.
    let fraction = |root: f64| ((root - root.floor()) * 4_294_967_296.0) as u32;
    let rounds: Vec<u32> = primes.iter().map(|prime| fraction(f64::from(*prime).cbrt())).collect();
    let mut state: Vec<u32> = primes.iter().take(8).map(|prime| fraction(f64::from(*prime).sqrt())).collect();

    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - message.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let length_at = padded.len() - 8;
    padded.splice(length_at.., (8 * message.len() as u64).to_be_bytes());

    for block in padded.chunks_exact(64) {
        let (words, _) = block.as_chunks::<4>();
        let mut schedule: Vec<u32> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
        for index in 16..64 {
            let (early, late) = (schedule[index - 15], schedule[index - 2]);
            let early = early.rotate_right(7) ^ early.rotate_right(18) ^ (early >> 3);
            let late = late.rotate_right(17) ^ late.rotate_right(19) ^ (late >> 10);
            let next = schedule[index - 16].wrapping_add(early).wrapping_add(schedule[index - 7]);
            schedule.push(next.wrapping_add(late));
        }
        let mut working = state.clone();
        for (round, word) in rounds.iter().zip(&schedule) {
            let [a, b, c, .., e, f, g, h] = working.as_slice() else { break };
            let choice = (e & f) ^ (!e & g);
            let majority = (a & b) ^ (a & c) ^ (b & c);
            let of_e = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let of_a = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let first = [of_e, choice, *round, *word].into_iter().fold(*h, u32::wrapping_add);
            let second = of_a.wrapping_add(majority);
            working.rotate_right(1);
            working[0] = first.wrapping_add(second);
            working[4] = working[4].wrapping_add(first);
        }
        for (word, change) in state.iter_mut().zip(working) {
            *word = word.wrapping_add(change);
        }
    }
    let mut hash = [0; 32];
    for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |chunk: &[u8]| -> String {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let digit = |place: usize| match place {
            place if place <= chunk.len() => char::from(DIGITS[(bits >> (18 - 6 * place)) as usize & 63]),
            _ => '=',
        };
        (0..4).map(digit).collect()
    };
    bytes.chunks(3).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_match_the_standard() {
        let hex = |text: &str| -> String {
            let digits = sha256(text.as_bytes()).into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
            digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
        };
        assert_eq!(hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(
            hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
        // Lengths around a block boundary, computed with sha256sum.
        assert_eq!(hex(&"a".repeat(55)), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
        assert_eq!(hex(&"a".repeat(56)), "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
        assert_eq!(
            hex(&"a".repeat(1000)),
            "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"
        );
        assert_eq!(base64(b"Man"), "TWFu");
        assert_eq!(base64(b"Ma"), "TWE=");
        assert_eq!(base64(b"M"), "TQ==");
    }
}
