//! Arabic letters in the shapes that their neighbours give them, and right-to-left text in the
//! order in which it is drawn.
//!
//! A simplification of the Unicode bidirectional algorithm that is enough for names: a line runs
//! from left to right, and each stretch of right-to-left text in it is reversed.

use super::fallback::{self, BitmapGlyph};

/// Arabic letters with presentation forms: the letter, its isolated form, and the number of forms:
/// 2 for letters that join only the letter before, else 4. The forms follow each other: isolated,
/// final, initial, medial.
const FORMS: [(char, u32, u32); 37] = [
    ('آ', 0xFE81, 2),
    ('أ', 0xFE83, 2),
    ('ؤ', 0xFE85, 2),
    ('إ', 0xFE87, 2),
    ('ئ', 0xFE89, 4),
    ('ا', 0xFE8D, 2),
    ('ب', 0xFE8F, 4),
    ('ة', 0xFE93, 2),
    ('ت', 0xFE95, 4),
    ('ث', 0xFE99, 4),
    ('ج', 0xFE9D, 4),
    ('ح', 0xFEA1, 4),
    ('خ', 0xFEA5, 4),
    ('د', 0xFEA9, 2),
    ('ذ', 0xFEAB, 2),
    ('ر', 0xFEAD, 2),
    ('ز', 0xFEAF, 2),
    ('س', 0xFEB1, 4),
    ('ش', 0xFEB5, 4),
    ('ص', 0xFEB9, 4),
    ('ض', 0xFEBD, 4),
    ('ط', 0xFEC1, 4),
    ('ظ', 0xFEC5, 4),
    ('ع', 0xFEC9, 4),
    ('غ', 0xFECD, 4),
    ('ف', 0xFED1, 4),
    ('ق', 0xFED5, 4),
    ('ك', 0xFED9, 4),
    ('ل', 0xFEDD, 4),
    ('م', 0xFEE1, 4),
    ('ن', 0xFEE5, 4),
    ('ه', 0xFEE9, 4),
    ('و', 0xFEED, 2),
    ('ى', 0xFEEF, 2),
    ('ي', 0xFEF1, 4),
    // Persian.
    ('پ', 0xFB56, 4),
    ('چ', 0xFB7A, 4),
];

/// Alefs that join a lam before them into one glyph, with its isolated form; the final one follows.
const LAM_ALEF: [(char, u32); 4] = [('آ', 0xFEF5), ('أ', 0xFEF7), ('إ', 0xFEF9), ('ا', 0xFEFB)];

fn forms(letter: char) -> Option<(u32, u32)> {
    FORMS.iter().find(|(known, ..)| *known == letter).map(|(_, first, count)| (*first, *count))
}

/// Returns true for vowel signs and points, which do not interrupt the joining of letters.
fn is_mark(character: char) -> bool {
    fallback::glyph(character).is_some_and(BitmapGlyph::is_combining)
}

fn is_right_to_left(character: char) -> bool {
    matches!(character, '\u{0590}'..='\u{08FF}' | '\u{FB1D}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFE}')
        && !is_arabic_digit(character)
}

/// Digits are written from left to right.
fn is_arabic_digit(character: char) -> bool {
    matches!(character, '\u{0660}'..='\u{0669}' | '\u{06F0}'..='\u{06F9}')
}

/// Returns the characters in the order in which they are drawn from left to right, with Arabic
/// letters in their shapes.
pub(super) fn visual_order(text: &str) -> String {
    if !text.chars().any(is_right_to_left) {
        return text.to_owned();
    }
    let shaped = shape(&text.chars().collect::<Vec<_>>());
    let mut visual = String::with_capacity(text.len());
    let mut at = 0;
    while at < shaped.len() {
        if !is_right_to_left(shaped[at]) {
            visual.push(shaped[at]);
            at += 1;
            continue;
        }
        let mut end = at;
        // Spaces and marks between right-to-left words belong to the stretch.
        for (index, character) in shaped.iter().enumerate().skip(at) {
            if is_right_to_left(*character) {
                end = index + 1;
            } else if character.is_alphanumeric() {
                break;
            }
        }
        visual.extend(clusters(&shaped[at..end]).into_iter().rev().flatten());
        at = end;
    }
    visual
}

/// Splits characters into letters, each with its marks.
fn clusters(characters: &[char]) -> Vec<&[char]> {
    characters.chunk_by(|_, next| is_mark(*next)).collect()
}

/// Replaces letters by the form that their neighbours give them.
fn shape(characters: &[char]) -> Vec<char> {
    let next_letter = |from: usize| characters[from..].iter().copied().find(|c| !is_mark(*c));
    let joins_before =
        |letter: Option<char>| letter.is_some_and(|letter| letter == 'ـ' || forms(letter).is_some());
    let joins_after = |letter: Option<char>| {
        letter.is_some_and(|l| l == 'ـ' || forms(l).is_some_and(|(_, count)| count == 4))
    };
    let mut shaped = Vec::with_capacity(characters.len());
    let (mut before, mut at) = (None, 0);
    while at < characters.len() {
        let letter = characters[at];
        at += 1;
        let Some((first, count)) = forms(letter) else {
            shaped.push(letter);
            if !is_mark(letter) {
                before = Some(letter);
            }
            continue;
        };
        let joined_before = u32::from(joins_after(before));
        let alef = characters.get(at).and_then(|next| LAM_ALEF.iter().find(|(alef, _)| alef == next));
        if let Some((alef, form)) = alef.filter(|_| letter == 'ل') {
            shaped.extend(char::from_u32(form + joined_before));
            before = Some(*alef);
            at += 1;
            continue;
        }
        let joined_after = u32::from(count == 4 && joins_before(next_letter(at)));
        shaped.extend(char::from_u32(first + joined_before + 2 * joined_after));
        before = Some(letter);
    }
    shaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_join_their_neighbours() {
        // Initial meem, medial tah, medial beh, final khah.
        let shaped = shape(&"مطبخ".chars().collect::<Vec<_>>());
        assert_eq!(shaped, ['\u{FEE3}', '\u{FEC4}', '\u{FE92}', '\u{FEA6}']);
        // Initial seen, final ligature of lam and alef, isolated meem.
        let shaped = shape(&"سلام".chars().collect::<Vec<_>>());
        assert_eq!(shaped, ['\u{FEB3}', '\u{FEFC}', '\u{FEE1}']);
    }

    #[test]
    fn right_to_left_stretches_are_reversed_and_others_kept() {
        assert_eq!(visual_order("kto β"), "kto β");
        assert_eq!(visual_order("אב גד"), "דג בא");
        assert_eq!(visual_order("x אב 12"), "x בא 12");
        assert_eq!(visual_order("x = אב, y"), "x = בא, y");
        // A vowel sign stays behind its letter.
        assert_eq!(visual_order("ד\u{064E}ב"), "בד\u{064E}");
    }
}
