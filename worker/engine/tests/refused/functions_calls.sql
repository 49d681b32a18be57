-- The same without the clock, which is refused before everything else.
--- input logs
time Timestamp(µs, "UTC")
status Int32
path Utf8
bytes Int64
client Utf8
{"time":"2026-11-01T10:00:00Z","status":200,"path":"/a","bytes":10,"client":"10.0.0.1"}
{"time":"2026-11-01T10:00:01.5Z","status":404,"path":"/b","bytes":0,"client":"10.0.0.2"}
{"time":"2026-11-01T10:00:02Z","status":500,"path":"/a/b?q=1","bytes":70,"client":null}
{"time":"2026-11-01T10:00:03Z","status":503,"path":null,"bytes":null,"client":"abc"}
{"time":null,"status":null,"path":"/ä","bytes":5,"client":""}
--- step s
SELECT DATE_FORMAT(time, '%Y-%m-%d') AS a, DATE_FORMAT(time, 'MMM') AS b, DATE_FORMAT(time, path) AS c, DATE_FORMAT(path, 'yyyy') AS d, HOUR(CAST(time AS DATE)) AS e, REGEXP_EXTRACT(path, '(') AS f, REGEXP_EXTRACT(path, '(a)', 2) AS g, REGEXP_EXTRACT(path, '(?=a)') AS h, SPLIT_INDEX(path, '/') AS i, SPLIT_INDEX(bytes, '/', 1) AS j, SPLIT_INDEX(path, '/', '1') AS k, count_char(path, 'ab') AS l, MOD(path, path) AS m FROM logs
--- output out from s
--- problems
PlanInvalid | step s, line 1, column 26 | date_format() does not know Y of the pattern '%Y-%m-%d': known are yyyy yy MM M dd d HH H hh h mm m ss s S… a and 'text'; with %Y-%m-%d use to_char() | -
PlanInvalid | step s, line 1, column 62 | date_format() does not know MMM of the pattern 'MMM': known are yyyy yy MM M dd d HH H hh h mm m ss s S… a and 'text'; with %Y-%m-%d use to_char() | -
PlanInvalid | step s, line 1, column 75 | the pattern of date_format() must be a literal | -
TypeMismatch | step s, line 1, column 8 | date_format() takes a timestamp, not Utf8 | make the types agree with CAST(… AS …), or with TRY_CAST if values may be unfit
TypeMismatch | step s, line 1, column 137 | hour() takes a timestamp, not Date32 | make the types agree with CAST(… AS …), or with TRY_CAST if values may be unfit
PlanInvalid | step s, line 1, column 189 | the pattern '(' of regexp_extract() cannot be read: unclosed group | -
PlanInvalid | step s, line 1, column 200 | regexp_extract() is asked for group 2, the pattern has 1 | -
PlanInvalid | step s, line 1, column 258 | the pattern '(?=a)' of regexp_extract() cannot be read: look-around, including look-ahead and look-behind, is not supported | -
TypeMismatch | step s, line 1, column 273 | split_index() takes a text, a delimiter and an index | make the types agree with CAST(… AS …), or with TRY_CAST if values may be unfit
TypeMismatch | step s, line 1, column 273 | split_index() takes a text as text, not Int64: cast it to VARCHAR | make the types agree with CAST(… AS …), or with TRY_CAST if values may be unfit
TypeMismatch | step s, line 1, column 273 | split_index() takes an integer as index, not Utf8 | make the types agree with CAST(… AS …), or with TRY_CAST if values may be unfit
PlanInvalid | step s, line 1, column 386 | count_char() counts one character, not 'ab' | -
TypeMismatch | step s, line 1, column 398 | Cannot coerce arithmetic expression Utf8 % Utf8 to valid types | make the types agree with CAST(… AS …), or with TRY_CAST if values may be unfit
