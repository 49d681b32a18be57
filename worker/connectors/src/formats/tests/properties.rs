//! Properties of all stream decoders: however the stream is cut into chunks, wherever it is gone on with, whatever is in it.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::super::StreamPosition;
use super::{Input, Output};

/// All line formats, with a small record limit so that it is met.
fn inputs() -> Vec<Input> {
    let columns = "a BigInt, b Varchar, c Double!, d Timestamp";
    vec![
        Input::json(columns),
        Input::json(columns).reading(&["b"]),
        Input::new(json!({"csv": {}}), columns),
        Input::new(json!({"csv": {"header": "Absent", "delimiter": "\\t", "null": "-"}}), columns),
        Input::new(json!({"raw": {}}), ""),
        Input::new(json!({"cloudFront": {}}), "").reading(&["time", "c_ip", "sc_bytes", "cs_uri_stem"]),
        Input::new(json!({"vpcFlow": {}}), "").reading(&["srcaddr", "bytes", "start"]),
    ]
    .into_iter()
    .map(|input| input.with_record_bytes(64))
    .collect()
}

/// Text made of what the formats look out for.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"\n",
        b"\r\n",
        b"\n",
        b",",
        b"\t",
        b" ",
        b"\"",
        b"\"\"",
        b"-",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"\\",
        b"\\u",
        b"a,b,c,d",
        b"a",
        b"1",
        b"2.5",
        b"{\"a\":1,\"b\":\"x\",\"c\":2}",
        b"{\"c\":1}",
        b"{\"a\":\"x\",\"c\":1}",
        b"1,x,2.5,",
        b"1\tx\t2.5\t-",
        b"\xFF",
        b"\xEF\xBB\xBF",
        b"\0",
        b"%20",
        b"%",
        b"#Fields: c-ip date time sc-bytes\n",
        b"#Version: 1.0\n",
        b"1.2.3.4\t2020-01-01\t00:00:00\t5",
        b"start bytes srcaddr\n",
        b"1418530010 77 10.0.0.1",
        b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ];
    vec(proptest::sample::select(pieces), 0..60).prop_map(|pieces| pieces.concat())
}

fn chunks<'a>(text: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

/// Rows, ordinals and bad records, in the order of their ordinals.
fn same(ours: &Output, theirs: &Output) -> Result<(), TestCaseError> {
    prop_assert_eq!(&ours.rows, &theirs.rows);
    prop_assert_eq!(&ours.ordinals, &theirs.ordinals);
    prop_assert_eq!(&ours.rejected, &theirs.rejected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn chunks_make_no_difference(text in text(), cuts in vec(any::<prop::sample::Index>(), 0..8)) {
        for input in inputs() {
            same(&input.decode_chunks(&chunks(&text, &cuts)), &input.decode(&text))?;
        }
    }

    #[test]
    fn every_record_has_its_own_ordinal(text in text()) {
        for input in inputs() {
            let output = input.decode(&text);
            let mut ordinals: Vec<u64> = output.ordinals.iter().copied().chain(output.rejected.iter().map(|r| r.ordinal)).collect();
            ordinals.sort_unstable();
            prop_assert_eq!(&ordinals, &(0..ordinals.len() as u64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn any_position_leads_to_the_same_tail(text in text(), cuts in vec(any::<prop::sample::Index>(), 0..8)) {
        for input in inputs() {
            let whole = input.decode(&text);
            let mut decoder = input.decoder(None);
            let mut head = Output::default();
            for chunk in chunks(&text, &cuts) {
                decoder.push(Bytes::copy_from_slice(chunk));
                head.drain(decoder.as_mut());
                let position = through_json(&decoder.position());
                let mut joined = head.clone();
                let mut resumed = input.decoder(Some(position.clone()));
                resumed.push(Bytes::copy_from_slice(&text[position.byte as usize..]));
                resumed.finish();
                joined.drain(resumed.as_mut());
                same(&joined, &whole)?;
                prop_assert_eq!(resumed.position().byte, text.len() as u64);
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..2000), cuts in vec(any::<prop::sample::Index>(), 0..4)) {
        for input in inputs() {
            let mut input = input;
            input.limits.record_bytes = 1000;
            input.decode_chunks(&chunks(&bytes, &cuts));
        }
    }

    #[test]
    fn csv_fields_are_those_of_csv_core(fields in vec(vec("[a-c \",\r\n\t]{0,6}", 3), 1..6), quote in any::<bool>()) {
        let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
        let plain = |field: &String| field.replace(['"', ',', '\r', '\n'], "");
        let line = |record: &Vec<String>| record.iter().map(|f| if quote { quoted(f) } else { plain(f) }).collect::<Vec<_>>().join(",");
        let text = fields.iter().map(line).collect::<Vec<_>>().join("\r\n");
        let input = Input::new(json!({"csv": {"header": "Absent", "null": "NULL"}}), "a Varchar, b Varchar, c Varchar");
        let output = input.decode(&text);
        prop_assert!(output.rejected.is_empty(), "{:?}", output.rejected);
        let ours: Vec<Vec<String>> = output.rows.iter().map(|row| ["a", "b", "c"].map(|c| row[c].as_str().unwrap().to_owned()).into()).collect();
        prop_assert_eq!(ours, csv_core_records(text.as_bytes()));
    }
}

fn through_json(position: &StreamPosition) -> StreamPosition {
    serde_json::from_str(&serde_json::to_string(position).unwrap()).unwrap()
}

/// What the reference implementation reads.
fn csv_core_records(mut text: &[u8]) -> Vec<Vec<String>> {
    let mut reader = csv_core::Reader::new();
    let (mut records, mut record) = (Vec::new(), Vec::new());
    let mut field = Vec::new();
    let mut buffer = [0; 64];
    loop {
        let (result, read, written) = reader.read_field(text, &mut buffer);
        text = &text[read..];
        field.extend_from_slice(&buffer[..written]);
        if let csv_core::ReadFieldResult::Field { record_end } = result {
            record.push(String::from_utf8(std::mem::take(&mut field)).unwrap());
            if record_end {
                records.push(std::mem::take(&mut record));
            }
        } else if result == csv_core::ReadFieldResult::End {
            return records;
        }
    }
}
