//! What every picture must fulfil, whatever its format.

use std::path::Path;

use libfuzzer_sys::Corpus;
use tipi::low_level::data::decode_from;

/// Pictures with more pixels are decoded once only.
const TWICE: usize = 1 << 20;

/// Decodes what begins as one of `magics` say (a place and the bytes there); anything else is another target's.
pub fn picture(data: &[u8], magics: &[(usize, &[u8])], every: bool) -> Corpus {
    let fits = |(at, magic): &(usize, &[u8])| data.get(*at..).is_some_and(|rest| rest.starts_with(magic));
    if !(if every { magics.iter().all(fits) } else { magics.iter().any(fits) }) {
        return Corpus::Reject;
    }
    let path = Path::new("picture");
    match decode_from(path, data) {
        Ok(first) => {
            assert!(first.width > 0 && first.height > 0);
            assert_eq!(first.data.len(), 3 * first.width * first.height);
            if first.width * first.height <= TWICE {
                let again = decode_from(path, data).expect("it was decoded a moment ago");
                assert!(
                    first.width == again.width && first.data == again.data,
                    "decoded twice, there are two pictures"
                );
            }
        }
        Err(error) => {
            let error = error.to_string();
            assert!(!error.contains('\n'), "an error has several lines: {error}");
            assert!(error.len() < 2000, "an error has {} bytes", error.len());
        }
    }
    Corpus::Keep
}
