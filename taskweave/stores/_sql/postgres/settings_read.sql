SELECT name, current_setting(name) AS setting FROM unnest($1::text[]) AS given (name);
