//! The standard's encodings of one byte, and the names of glyphs (ISO 32000-1, Annex D; Adobe's glyph list).

use std::{collections::HashMap, sync::LazyLock};

/// What the codes of a simple font mean if the font doesn't say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    Standard,
    WinAnsi,
    MacRoman,
    /// Of the font of this name alone.
    Symbol,
}

impl Base {
    /// By its name in a file.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"StandardEncoding" => Some(Self::Standard),
            b"WinAnsiEncoding" => Some(Self::WinAnsi),
            b"MacRomanEncoding" => Some(Self::MacRoman),
            _ => None,
        }
    }

    /// The character of a code.
    pub(crate) fn char(self, code: u8) -> Option<char> {
        match (self, code) {
            (_, 0..=31 | 127) => None,
            (Self::Symbol, 32..=126) => SYMBOL.chars().nth(usize::from(code) - 32),
            (Self::Symbol, 160..=254) => SYMBOL_MORE.chars().nth(usize::from(code) - 160),
            (Self::Symbol, _) => None,
            (Self::Standard, b'\'') => Some('’'),
            (Self::Standard, b'`') => Some('‘'),
            (_, 32..=126) => Some(char::from(code)),
            (Self::Standard, _) => STANDARD.chars().nth(usize::from(code) - 128),
            (Self::MacRoman, _) => MAC.chars().nth(usize::from(code) - 128),
            (Self::WinAnsi, 128..=159) => WINDOWS.chars().nth(usize::from(code) - 128),
            (Self::WinAnsi, _) => Some(char::from(code)),
        }
        .filter(|char| *char != NONE)
    }
}

/// Stands for codes without a character.
const NONE: char = '\u{fffd}';

/// Codes 32 to 126.
const SYMBOL: &str =
    " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧ∆ΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼";

/// Codes 160 to 254; the pieces of tall brackets are left out.
const SYMBOL_MORE: &str = "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…|—↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊⟨®©™∑\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}⟩∫";

/// Codes 128 to 159.
const WINDOWS: &str = "€•‚ƒ„…†‡ˆ‰Š‹Œ•Ž••‘’“”•–—˜™š›œ•žŸ";

/// Codes from 128 on.
const MAC: &str = "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{fffd}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ";

/// Codes from 128 on.
const STANDARD: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}¡¢£⁄¥ƒ§¤'“«‹›ﬁﬂ\u{fffd}–†‡·\u{fffd}¶•‚„”»…‰\u{fffd}¿\
\u{fffd}`´ˆ˜¯˘˙¨\u{fffd}˚¸\u{fffd}˝˛ˇ—\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}Æ\u{fffd}ª\u{fffd}\u{fffd}\u{fffd}\u{fffd}ŁØŒº\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}æ\u{fffd}\u{fffd}\u{fffd}ı\u{fffd}\u{fffd}łøœß\u{fffd}\u{fffd}\u{fffd}\u{fffd}";

/// What a glyph of this name shows.
pub(crate) fn glyph_text(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    // `a.alt` looks different and means the same; `f_i` is two letters in one.
    let name = name.split('.').next().filter(|name| !name.is_empty())?;
    name.split('_').map(one_glyph).collect()
}

fn one_glyph(name: &str) -> Option<String> {
    if let Some(text) = NAMES.get(name) {
        return Some((*text).to_owned());
    }
    let mut chars = name.chars();
    if let (Some(letter), None) = (chars.next(), chars.next()) {
        return letter.is_ascii_alphabetic().then(|| letter.to_string());
    }
    let digits = match (name.strip_prefix("uni"), name.strip_prefix('u')) {
        (Some(digits), _) if digits.len() == 4 => digits,
        (_, Some(digits)) if (4..=6).contains(&digits.len()) => digits,
        _ => return None,
    };
    char::from_u32(u32::from_str_radix(digits, 16).ok()?).map(String::from)
}

static NAMES: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let words: Vec<&str> = GLYPHS.split_whitespace().collect();
    let mut names: HashMap<&str, &str> = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    names.extend([("space", " "), ("nbspace", " "), ("nonbreakingspace", " ")]);
    names
});

/// Names with more than a letter, each with its text.
const GLYPHS: &str = "
exclam ! quotedbl \" numbersign # dollar $ percent % ampersand & quotesingle ' quoteright ’ parenleft ( parenright )
asterisk * plus + comma , hyphen - minus − period . slash / zero 0 one 1 two 2 three 3 four 4 five 5 six 6 seven 7
eight 8 nine 9 colon : semicolon ; less < equal = greater > question ? at @ bracketleft [ backslash \\ bracketright ]
asciicircum ^ underscore _ grave ` quoteleft ‘ braceleft { bar | braceright } asciitilde ~ exclamdown ¡ cent ¢
sterling £ fraction ⁄ yen ¥ florin ƒ section § currency ¤ quotedblleft “ guillemotleft « guilsinglleft ‹
guilsinglright › fi fi fl fl ff ff ffi ffi ffl ffl endash – dagger † daggerdbl ‡ periodcentered · middot ·
paragraph ¶ bullet • quotesinglbase ‚ quotedblbase „ quotedblright ” guillemotright » ellipsis … perthousand ‰
questiondown ¿ acute ´ circumflex ˆ tilde ˜ macron ¯ breve ˘ dotaccent ˙ dieresis ¨ ring ˚ cedilla ¸
hungarumlaut ˝ ogonek ˛ caron ˇ emdash — AE Æ ordfeminine ª Lslash Ł Oslash Ø OE Œ ordmasculine º ae æ dotlessi ı
lslash ł oslash ø oe œ germandbls ß Aacute Á Acircumflex Â Adieresis Ä Agrave À Aring Å Atilde Ã Ccedilla Ç Eacute É
Ecircumflex Ê Edieresis Ë Egrave È Iacute Í Icircumflex Î Idieresis Ï Igrave Ì Ntilde Ñ Oacute Ó Ocircumflex Ô
Odieresis Ö Ograve Ò Otilde Õ Scaron Š Uacute Ú Ucircumflex Û Udieresis Ü Ugrave Ù Yacute Ý Ydieresis Ÿ Zcaron Ž
aacute á acircumflex â adieresis ä agrave à aring å atilde ã ccedilla ç eacute é ecircumflex ê edieresis ë egrave è
iacute í icircumflex î idieresis ï igrave ì ntilde ñ oacute ó ocircumflex ô odieresis ö ograve ò otilde õ scaron š
uacute ú ucircumflex û udieresis ü ugrave ù yacute ý ydieresis ÿ zcaron ž Eth Ð eth ð Thorn Þ thorn þ brokenbar ¦
copyright © degree ° divide ÷ logicalnot ¬ mu µ multiply × onehalf ½ onequarter ¼ onesuperior ¹ plusminus ±
registered ® threequarters ¾ threesuperior ³ trademark ™ twosuperior ² Euro € sfthyphen -
Abreve Ă abreve ă Amacron Ā amacron ā Aogonek Ą aogonek ą Cacute Ć cacute ć Ccaron Č ccaron č Dcaron Ď dcaron ď
Dcroat Đ dcroat đ Ecaron Ě ecaron ě Edotaccent Ė edotaccent ė Emacron Ē emacron ē Eogonek Ę eogonek ę Gbreve Ğ
gbreve ğ Idotaccent İ Imacron Ī imacron ī Iogonek Į iogonek į Lacute Ĺ lacute ĺ Lcaron Ľ lcaron ľ Nacute Ń nacute ń
Ncaron Ň ncaron ň Ohungarumlaut Ő ohungarumlaut ő Omacron Ō omacron ō Racute Ŕ racute ŕ Rcaron Ř rcaron ř Sacute Ś
sacute ś Scedilla Ş scedilla ş Tcaron Ť tcaron ť Uhungarumlaut Ű uhungarumlaut ű Umacron Ū umacron ū Uogonek Ų
uogonek ų Uring Ů uring ů Zacute Ź zacute ź Zdotaccent Ż zdotaccent ż
Alpha Α Beta Β Gamma Γ Delta ∆ Epsilon Ε Zeta Ζ Eta Η Theta Θ Iota Ι Kappa Κ Lambda Λ Mu Μ Nu Ν Xi Ξ Omicron Ο Pi Π
Rho Ρ Sigma Σ Tau Τ Upsilon Υ Phi Φ Chi Χ Psi Ψ Omega Ω alpha α beta β gamma γ delta δ epsilon ε epsilon1 ε zeta ζ
eta η theta θ theta1 ϑ iota ι kappa κ lambda λ nu ν xi ξ omicron ο pi π pi1 ϖ rho ρ rho1 ϱ sigma σ sigma1 ς tau τ
upsilon υ phi φ phi1 ϕ chi χ psi ψ omega ω
arrowleft ← arrowright → arrowup ↑ arrowdown ↓ arrowboth ↔ arrowdblright ⇒ arrowdblleft ⇐ arrowdblboth ⇔ infinity ∞
partialdiff ∂ summation ∑ product ∏ integral ∫ radical √ approxequal ≈ notequal ≠ lessequal ≤ greaterequal ≥
equivalence ≡ similar ∼ congruent ≅ proportional ∝ element ∈ notelement ∉ propersubset ⊂ reflexsubset ⊆
propersuperset ⊃ intersection ∩ union ∪ universal ∀ existential ∃ emptyset ∅ gradient ∇ logicaland ∧ logicalor ∨
asteriskmath ∗ dotmath ⋅ circleplus ⊕ circlemultiply ⊗ perpendicular ⊥ angle ∠ therefore ∴ lozenge ◊ prime ′
minute ′ second ″ bardbl ‖ angbracketleft ⟨ angbracketright ⟩ floorleft ⌊ floorright ⌋ ceilingleft ⌈ ceilingright ⌉
openbullet ◦ checkmark ✓ H18533 ■ a71 ● a20 ✔ filledbox ■ square □ circle ○";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_whole() {
        assert_eq!((SYMBOL.chars().count(), SYMBOL_MORE.chars().count()), (95, 83));
        assert_eq!((WINDOWS.chars().count(), MAC.chars().count(), STANDARD.chars().count()), (32, 128, 128));
        assert_eq!(GLYPHS.split_whitespace().count() % 2, 0);
        for (base, code, char) in [
            (Base::WinAnsi, 0x80, '€'),
            (Base::WinAnsi, 0x9f, 'Ÿ'),
            (Base::WinAnsi, 0xe9, 'é'),
            (Base::MacRoman, 0xd2, '“'),
            (Base::MacRoman, 0xff, 'ˇ'),
            (Base::Standard, 0xa1, '¡'),
            (Base::Standard, 0xb1, '–'),
            (Base::Standard, 0xc1, '`'),
            (Base::Standard, 0xd0, '—'),
            (Base::Standard, 0xe1, 'Æ'),
            (Base::Standard, 0xf1, 'æ'),
            (Base::Standard, 0xfb, 'ß'),
            (Base::Symbol, b'W', 'Ω'),
            (Base::Symbol, b'z', 'ζ'),
            (Base::Symbol, 0xb7, '•'),
            (Base::Symbol, 0xd0, '∠'),
            (Base::Symbol, 0xe5, '∑'),
            (Base::Symbol, 0xf2, '∫'),
        ] {
            assert_eq!(base.char(code), Some(char), "{base:?} {code:x}");
        }
        assert_eq!(Base::Standard.char(0x80), None);
    }

    #[test]
    fn glyphs_have_text() {
        for (name, text) in [
            ("A", "A"),
            ("space", " "),
            ("odieresis", "ö"),
            ("ffi", "ffi"),
            ("f_i", "fi"),
            ("uni20AC", "€"),
            ("u1F600", "😀"),
            ("one.oldstyle", "1"),
        ] {
            assert_eq!(glyph_text(name.as_bytes()).as_deref(), Some(text));
        }
        for name in ["g12", ".notdef", "", "uniD800", "uXYZW"] {
            assert_eq!(glyph_text(name.as_bytes()), None, "{name}");
        }
    }
}
