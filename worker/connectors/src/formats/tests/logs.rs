//! CloudFront standard logs and VPC Flow Logs, with lines as AWS documents them.

use millrace_engine::batch::RejectCode;
use serde_json::{Value, json};

use super::Input;

const HEADER: &str = "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len sc-range-start sc-range-end\n";

const LINE: &str = "2019-12-04\t21:02:31\tLAX1\t392\t192.0.2.100\tGET\td111111abcdef8.cloudfront.net\t/in%20dex.html\t200\t-\tMozilla/5.0%2520(Windows;%20U)\ta=1%26b\t-\tHit\tSOX4xwn4XV6Q4rgb7XiVGOHms_BGlTAC4KyHmureZmBNrjGdRLiNIQ==\td111111abcdef8.cloudfront.net\thttps\t23\t0.001\t-\tTLSv1.2\tECDHE-RSA-AES128-GCM-SHA256\tHit\tHTTP/2.0\t-\t-\t11040\t0.001\tHit\ttext/html\t78\t-\t-\n";

fn cloud_front() -> Input {
    Input::new(json!({"cloudFront": {}}), "")
}

fn vpc_flow() -> Input {
    Input::new(json!({"vpcFlow": {}}), "")
}

#[test]
fn the_documented_line_is_typed_and_decoded() {
    let expected = json!({
        "date": "2019-12-04", "time": "2019-12-04T21:02:31Z", "x_edge_location": "LAX1", "sc_bytes": 392, "c_ip": "192.0.2.100",
        "cs_method": "GET", "cs_host": "d111111abcdef8.cloudfront.net", "cs_uri_stem": "/in dex.html", "sc_status": 200,
        "cs_user_agent": "Mozilla/5.0%20(Windows; U)", "cs_uri_query": "a=1&b", "x_edge_result_type": "Hit",
        "x_edge_request_id": "SOX4xwn4XV6Q4rgb7XiVGOHms_BGlTAC4KyHmureZmBNrjGdRLiNIQ==", "x_host_header": "d111111abcdef8.cloudfront.net",
        "cs_protocol": "https", "cs_bytes": 23, "time_taken": 0.001, "ssl_protocol": "TLSv1.2",
        "ssl_cipher": "ECDHE-RSA-AES128-GCM-SHA256", "x_edge_response_result_type": "Hit", "cs_protocol_version": "HTTP/2.0",
        "c_port": 11040, "time_to_first_byte": 0.001, "x_edge_detailed_result_type": "Hit", "sc_content_type": "text/html",
        "sc_content_len": 78
    });
    for text in [format!("{HEADER}{LINE}"), LINE.to_owned(), LINE.trim_end().to_owned()] {
        let output = cloud_front().decode(text);
        assert_eq!(output.rows, std::slice::from_ref(&expected));
        assert_eq!(output.ordinals, [0]);
    }
    assert_eq!(cloud_front().table.fields().len(), 33);
}

#[test]
fn the_header_decides_order_and_set_of_fields() {
    let input = cloud_front().reading(&["time", "c_ip", "sc_status", "cs_user_agent", "date"]);
    let text = "#Version: 1.0\n#Fields: c-ip asn time cs(User-Agent) date\n1.2.3.4\t64500\t01:02:03\ta%20b\t2024-02-29\n\
                #Fields: sc-status date\n404\t2024-03-01\n# a comment\n";
    let output = input.decode(text);
    let first = json!({"time": "2024-02-29T01:02:03Z", "c_ip": "1.2.3.4", "cs_user_agent": "a b", "date": "2024-02-29"});
    assert_eq!(output.rows, [first, json!({"sc_status": 404, "date": "2024-03-01"})]);
    assert_eq!(output.ordinals, [0, 1]);
}

#[test]
fn a_used_field_may_be_anywhere_in_the_line() {
    let input = Input::new(json!({"cloudFront": {}}), "");
    let all: Vec<String> = input.projection.clone();
    let whole = input.decode(LINE).rows[0].clone();
    for column in &all {
        let output = input.clone().reading(&[column]).decode(LINE);
        assert_eq!(output.rows[0].get(column), whole.get(column), "{column}");
    }
    let reversed: Vec<&str> = all.iter().rev().map(String::as_str).collect();
    assert_eq!(input.clone().reading(&reversed).decode(LINE).rows, [whole]);
    assert_eq!(input.reading(&[]).decode(format!("{HEADER}{LINE}{LINE}")).rows, [json!({}), json!({})]);
}

#[test]
fn a_line_must_have_the_fields_of_its_header() {
    let short = LINE.replacen("LAX1\t", "", 1);
    let long = LINE.replacen("LAX1", "LAX1\tLAX2", 1);
    for projection in [&["sc_range_end"][..], &["date"], &[], &["cs_method", "sc_status"]] {
        let output = cloud_front().reading(projection).decode(format!("{short}{long}{LINE}garbage\n"));
        assert_eq!(output.ordinals, [2]);
        let errors: Vec<&str> = output.rejected.iter().map(|r| r.error.as_str()).collect();
        let error = |fields: u32| format!("the line has {fields} fields, its header names 33");
        assert_eq!(errors, [error(32), error(34), error(1)]);
        assert!(output.rejected.iter().all(|r| r.code == RejectCode::Malformed));
    }
}

#[test]
fn values_of_the_wrong_form_are_mismatches() {
    let cases = [
        ("\t392\t", "\tmany\t", "column \"sc_bytes\": \"many\" is not a valid BigInt"),
        ("\t200\t", "\t99999999999\t", "column \"sc_status\": \"99999999999\" is not a valid Integer"),
        ("\t0.001\t-\t", "\t1,5\t-\t", "column \"time_taken\": \"1,5\" is not a valid Double"),
        ("2019-12-04\t", "2019-13-04\t", "column \"date\": \"2019-13-04\" is not a valid Date (yyyy-MM-dd)"),
        ("\t21:02:31\t", "\t21.02.31\t", "column \"time\": \"2019-12-04 21.02.31\" is not a valid Timestamp"),
        ("\t392\t", "\t\t", "column \"sc_bytes\": \"\" is not a valid BigInt"),
    ];
    for (from, to, error) in cases {
        let output = cloud_front().decode(LINE.replacen(from, to, 1));
        let refused = output.only_refusal();
        assert_eq!((refused.code, refused.error.as_str()), (RejectCode::TypeMismatch, error));
    }
    let status =
        cloud_front().reading(&["sc_status", "time"]).decode(LINE.replacen("\t200\t", "\t000\t", 1).replacen("2019-12-04", "-", 1));
    assert_eq!(status.only_refusal().code, RejectCode::TypeMismatch);
}

#[test]
fn percent_signs_are_decoded_once_and_only_where_they_are_codes() {
    let stem = |text: &str| {
        let output = cloud_front().reading(&["cs_uri_stem"]).decode(LINE.replacen("/in%20dex.html", text, 1));
        output.rows[0]["cs_uri_stem"].as_str().map(str::to_owned)
    };
    let cases = [
        ("/a%C3%A9", "/aé"),
        ("/a%2520", "/a%20"),
        ("%", "%"),
        ("/100%", "/100%"),
        ("/%zz%4", "/%zz%4"),
        ("/%ff%20", "/%ff%20"),
        ("/%0a%00", "/\n\u{0}"),
        ("%%41", "%A"),
    ];
    for (text, expected) in cases {
        assert_eq!(stem(text).as_deref(), Some(expected), "{text}");
    }
    assert_eq!(stem("-"), None);
}

#[test]
fn a_hostile_header_is_a_bad_record() {
    for fields in ["a ".repeat(20_000), "a ".repeat(600), String::new(), "\u{FF}".to_owned().repeat(10_000)] {
        let output = cloud_front().decode(format!("#Fields: {fields}\n{LINE}"));
        assert_eq!((output.codes(), output.ordinals), (vec![(0, RejectCode::Malformed)], vec![1]));
    }
    let doubled = cloud_front().reading(&["c_ip"]).decode("#Fields: c-ip c-ip cs-method c-ip\n1.1.1.1\t2.2.2.2\tGET\t3.3.3.3\n");
    assert_eq!(doubled.rows, [json!({"c_ip": "1.1.1.1"})]);
}

#[test]
fn the_header_survives_a_restart() {
    let input = cloud_front().reading(&["c_ip", "sc_status"]);
    let text = "#Fields: sc-status c-ip\n200\t1.1.1.1\n404\t2.2.2.2\n";
    let mut decoder = input.decoder(None);
    decoder.push(text[..36].to_owned().into());
    assert_eq!(decoder.next().unwrap().ordinals.len(), 1);
    let position = decoder.position();
    assert_eq!((position.record, position.header.as_deref()), (1, Some("sc-status c-ip")));
    let mut resumed = input.decoder(Some(position.clone()));
    resumed.push(text[position.byte as usize..].to_owned().into());
    let decoded = resumed.next().unwrap();
    assert_eq!(super::rows(&decoded.records), [json!({"c_ip": "2.2.2.2", "sc_status": 404})]);
    assert_eq!(decoded.ordinals.value(0), 1);
}

#[test]
fn flow_logs_of_version_2_need_no_header() {
    let text = "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK\n\
                2 123456789010 eni-1235b8ca123456789 - - - - - - - 1431280876 1431280934 - NODATA\n\
                2 123456789010 eni-11111111aaaaaaaaa - - - - - - - 1431280876 1431280934 - SKIPDATA\n";
    let output = vpc_flow().decode(text);
    assert_eq!(
        output.rows[0],
        json!({
            "version": 2, "account_id": "123456789010", "interface_id": "eni-1235b8ca123456789", "srcaddr": "172.31.16.139",
            "dstaddr": "172.31.16.21", "srcport": 20641, "dstport": 22, "protocol": 6, "packets": 20, "bytes": 4249,
            "start": "2014-12-14T04:06:50Z", "end": "2014-12-14T04:07:50Z", "action": "ACCEPT", "log_status": "OK"
        })
    );
    assert_eq!(
        output.rows[1],
        json!({"version": 2, "account_id": "123456789010", "interface_id": "eni-1235b8ca123456789",
               "start": "2015-05-10T18:01:16Z", "end": "2015-05-10T18:02:14Z", "log_status": "NODATA"})
    );
    assert_eq!(output.rows[2]["log_status"], "SKIPDATA");
    assert_eq!(vpc_flow().table.fields().len(), 29);
}

#[test]
fn flow_logs_are_read_by_their_header() {
    let text = "version vpc-id tcp-flags traffic-path flow-direction pkt-src-aws-service ecs-cluster-arn start\n\
                5 vpc-abcdefab012345678 3 8 egress S3 - 1616729292\n\
                flow-direction region\ningress us-east-1\n";
    let output = vpc_flow().decode(text);
    let first: Value = json!({"version": 5, "vpc_id": "vpc-abcdefab012345678", "tcp_flags": 3, "traffic_path": 8,
        "flow_direction": "egress", "pkt_src_aws_service": "S3", "start": "2021-03-26T03:28:12Z"});
    assert_eq!(output.rows, [first, json!({"flow_direction": "ingress", "region": "us-east-1"})]);
    assert_eq!(output.ordinals, [0, 1]);
}

#[test]
fn bad_flow_logs_are_refused() {
    let line = "2 1 eni 1.1.1.1 2.2.2.2 1 2 6 20 4249 1418530010 1418530070 ACCEPT OK";
    let cases = [
        (line.replace("ACCEPT", "ACCEPT x"), RejectCode::Malformed),
        (line.replace(" ACCEPT", ""), RejectCode::Malformed),
        (line.replace("4249", "lots"), RejectCode::TypeMismatch),
        (line.replace("1418530010", "9223372036854775807"), RejectCode::TypeMismatch),
        (line.replace("1418530010", "2014-12-14"), RejectCode::TypeMismatch),
        (line.replace("2 1 eni", "2  1 eni"), RejectCode::Malformed),
    ];
    for (line, code) in cases {
        assert_eq!(vpc_flow().decode(&line).only_refusal().code, code, "{line}");
    }
    assert_eq!(vpc_flow().decode(b"2 1 \xFF").only_refusal().code, RejectCode::Malformed);
}
